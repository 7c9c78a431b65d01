// An index that owns its vectors: what callers see after adding, replacing and removing, and while others do so.
#include <algorithm>
#include <atomic>
#include <limits>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

#include "check.h"
#include "data.h"
#include "hnsw/index.h"

using namespace akidb;
using namespace akidb::hnsw;
using namespace akidb::test;

namespace {

constexpr std::size_t kDim = 12;

std::vector<std::int64_t> range(std::int64_t first, std::int64_t count) {
  std::vector<std::int64_t> ids(static_cast<std::size_t>(count));
  std::iota(ids.begin(), ids.end(), first);
  return ids;
}

Index::Rows rows(const std::vector<std::int64_t>& ids, const std::vector<float>& vectors) {
  return {ids.data(), vectors.data(), ids.size()};
}

Index::Query one_query(const float* vector, std::size_t k) {
  Index::Query query;
  query.queries = vector;
  query.query_count = 1;
  query.k = k;
  query.ef = 50;
  return query;
}

std::vector<std::int64_t> search(const Index& index, const Index::Query& query) {
  std::vector<std::int64_t> ids(query.query_count * query.k);
  std::vector<float> distances(ids.size());
  index.search(query, ids.data(), distances.data());
  return ids;
}

std::vector<std::int64_t> search(const Index& index, const std::vector<float>& queries, std::size_t k,
                                 const std::vector<std::uint8_t>* mask = nullptr) {
  Index::Query query = one_query(queries.data(), k);
  query.query_count = queries.size() / kDim;
  if (mask != nullptr) query.id_mask = *mask;
  return search(index, query);
}

}  // namespace

TEST(removed_ids_are_never_found_and_the_rest_is) {
  Index index({kDim, Metric::kL2}, {8, 60, 1});
  const std::vector<float> vectors = clustered(2000, kDim, 1);
  index.add(rows(range(0, 2000), vectors), 2, {});
  // In steps below and above the share at which the graph is mended, down to the last.
  std::int64_t first = 0;
  for (const std::int64_t count : {10, 700, 300, 900, 89, 1}) {
    index.remove(range(first, count).data(), static_cast<std::size_t>(count));
    first += count;
    CHECK_EQ(static_cast<std::size_t>(2000 - first), index.size());
    const std::vector<std::int64_t> found = search(index, vectors, 1);
    for (std::size_t i = 0; i < found.size(); ++i) {
      if (static_cast<std::int64_t>(i) < first) CHECK(found[i] == -1 || found[i] >= first);
      if (static_cast<std::int64_t>(i) < first && first < 2000) CHECK(found[i] != -1);
    }
    std::size_t hits = 0;
    for (auto i = static_cast<std::size_t>(first); i < 2000; ++i)
      hits += found[i] == static_cast<std::int64_t>(i) ? 1 : 0;
    CHECK(static_cast<double>(hits) >= 0.99 * static_cast<double>(2000 - first));
    index.validate();
  }
  index.add(rows(range(0, 500), {vectors.begin(), vectors.begin() + 500 * kDim}), 2, {});
  CHECK_EQ(std::int64_t{17}, search(index, {vectors.begin() + 17 * kDim, vectors.begin() + 18 * kDim}, 1)[0]);
}

TEST(update_moves_an_id) {
  Index index({kDim, Metric::kCosine}, {8, 60, 1});
  const std::vector<float> vectors = clustered(600, kDim, 2);
  const std::vector<float> others = clustered(600, kDim, 3);
  index.add(rows(range(0, 600), vectors), 2, {});
  index.update(rows(range(0, 600), others), 2, {});
  CHECK_EQ(std::size_t{600}, index.size());
  std::vector<float> stored(600 * kDim);
  index.get(range(0, 600).data(), 600, stored.data());
  CHECK(stored == others);
  const std::vector<std::int64_t> found = search(index, others, 1);
  CHECK(std::count(found.begin(), found.end(), 599) == 1);
}

TEST(refused_input_changes_nothing) {
  Index index({kDim, Metric::kCosine}, {8, 60, 1});
  const std::vector<float> vectors = clustered(10, kDim, 4);
  index.add(rows(range(0, 10), vectors), 1, {});
  const auto refuse = [&](std::vector<std::int64_t> ids, std::vector<float> values) {
    return thrown_by<Error>([&] { index.add(rows(ids, values), 1, {}); }).kind();
  };
  std::vector<float> two(vectors.begin(), vectors.begin() + 2 * kDim);
  CHECK(refuse({20, 20}, two) == ErrorKind::kInvalidInput);
  CHECK(refuse({20, -1}, two) == ErrorKind::kInvalidInput);
  CHECK(refuse({20, 3}, two) == ErrorKind::kInvalidInput);
  std::vector<float> bad = two;
  bad[kDim] = std::numeric_limits<float>::quiet_NaN();
  CHECK(refuse({20, 21}, bad) == ErrorKind::kInvalidInput);
  std::fill(bad.begin() + kDim, bad.end(), 0.0F);
  CHECK(refuse({20, 21}, bad) == ErrorKind::kInvalidInput);
  const std::vector<std::int64_t> unknown{3, 77};
  CHECK(thrown_by<Error>([&] { index.remove(unknown.data(), 2); }).kind() == ErrorKind::kNotFound);
  CHECK(thrown_by<Error>([&] { index.update(rows(unknown, two), 1, {}); }).kind() == ErrorKind::kNotFound);
  CHECK_EQ(std::size_t{10}, index.size());
  CHECK(index.ids() == range(0, 10));
}

TEST(a_mask_that_is_too_short_is_told_how_long_it_has_to_be) {
  Index index({kDim, Metric::kL2}, {8, 60, 1});
  index.add(rows({std::numeric_limits<std::int64_t>::max()}, clustered(1, kDim, 10)), 1, {});
  const std::vector<std::uint8_t> mask(3, 1);
  const Error error = thrown_by<Error>([&] { search(index, clustered(1, kDim, 10), 1, &mask); });
  CHECK(std::string(error.what()).find("expected 9223372036854775808 or more") != std::string::npos);
}

TEST(a_stopped_add_leaves_nothing_behind) {
  Index index({kDim, Metric::kL2}, {8, 200, 1});
  index.add(rows(range(0, 200), clustered(200, kDim, 5)), 1, {});
  const std::size_t bytes = index.bytes();
  const std::vector<float> more = clustered(20000, kDim, 6);
  const Error error = thrown_by<Error>(
      [&] { index.add(rows(range(200, 20000), more), 2, [](std::size_t, std::size_t) { return false; }); });
  CHECK(error.kind() == ErrorKind::kCancelled);
  CHECK_EQ(std::size_t{200}, index.size());
  CHECK_EQ(bytes, index.bytes());
  CHECK_EQ(std::size_t{200}, index.validate().nodes);
  CHECK(index.ids() == range(0, 200));
  for (const std::int64_t id : search(index, {more.begin(), more.begin() + 50 * kDim}, 20)) CHECK(id >= 0 && id < 200);
  index.add(rows(range(200, 200), {more.begin(), more.begin() + 200 * kDim}), 2, {});
  CHECK_EQ(std::size_t{400}, index.size());
}

TEST(a_stopped_first_add_leaves_an_empty_index) {
  Index index({kDim, Metric::kCosine}, {8, 200, 1});
  const std::vector<float> vectors = clustered(2000, kDim, 11);
  const auto stop = [](std::size_t, std::size_t) { return false; };
  CHECK(thrown_by<Error>([&] { index.add(rows(range(0, 2000), vectors), 2, stop); }).kind() == ErrorKind::kCancelled);
  CHECK(index.bytes() < 1000);
  CHECK_EQ(std::size_t{0}, index.validate().nodes);
}

TEST(what_a_stopped_add_left_in_room_that_there_was_goes_with_the_next_write) {
  Index index({kDim, Metric::kL2}, {8, 60, 1});
  const std::vector<float> vectors = clustered(400, kDim, 12);
  const auto some = [&](std::ptrdiff_t first, std::ptrdiff_t count) {
    constexpr auto kWidth = static_cast<std::ptrdiff_t>(kDim);
    return std::vector<float>(vectors.begin() + first * kWidth, vectors.begin() + (first + count) * kWidth);
  };
  index.add(rows(range(0, 200), some(0, 200)), 1, {});
  index.add(rows(range(200, 10), some(200, 10)), 1, {});  // makes room for more than these
  const std::size_t bytes = index.bytes();
  const auto stop = [](std::size_t, std::size_t) { return false; };
  CHECK(thrown_by<Error>([&] { index.add(rows(range(210, 150), some(210, 150)), 1, stop); }).kind() ==
        ErrorKind::kCancelled);
  CHECK_EQ(bytes, index.bytes());
  CHECK_EQ(std::size_t{360}, index.validate().nodes);
  index.add(rows(range(210, 1), some(210, 1)), 1, {});
  const Census census = index.validate();
  CHECK_EQ(std::size_t{211}, census.nodes);
  CHECK_EQ(std::size_t{0}, census.unreachable);
}

// ThreadSanitizer's test: everything at once, with growth and mending of the graph under the searches, and adds that
// are stopped, in room that there was and not.
TEST(searches_go_on_while_others_add_stop_update_remove_and_seal) {
  Index index({kDim, Metric::kL2}, {6, 30, 1});
  const std::vector<float> vectors = clustered(3000, kDim, 7);
  index.add(rows(range(0, 300), {vectors.begin(), vectors.begin() + 300 * kDim}), 2, {});
  std::atomic<bool> writing{true};
  std::atomic<std::int64_t> removed_below{0};
  std::vector<std::thread> readers;
  std::atomic<std::size_t> wrong{0};
  readers.reserve(3);
  for (unsigned reader = 0; reader < 3; ++reader) {
    readers.emplace_back([&, reader] {
      const std::vector<std::uint8_t> all(3000, 1);  // a filter that lets all pass, for one of the readers
      for (std::size_t i = reader; writing; i = (i + 7) % 3000) {
        const std::int64_t gone = removed_below;
        const bool is_filtered = reader == 0;
        const std::vector<std::int64_t> found = search(index, {&vectors[i * kDim], &vectors[i * kDim] + kDim},
                                                       is_filtered ? 300 : 5, is_filtered ? &all : nullptr);
        for (const std::int64_t id : found) wrong += (id >= 0 && id < gone) || id >= 3000 ? 1 : 0;
        wrong += found[0] < 0 ? 1 : 0;
        wrong += index.size() == 0 ? 1 : 0;
      }
    });
  }
  for (std::int64_t first = 300; first < 3000; first += 100) {
    const auto begin = vectors.begin() + first * static_cast<std::int64_t>(kDim);
    index.add(rows(range(first, 100), {begin, begin + 100 * kDim}), 3, {});
    const std::vector<float> others = clustered(first % 200 == 0 ? 50 : 2000, kDim, 13);
    const std::vector<std::int64_t> ids = range(5000, static_cast<std::int64_t>(others.size() / kDim));
    thrown_by<Error>([&] { index.add(rows(ids, others), 3, [](std::size_t, std::size_t) { return false; }); });
    index.update(rows(range(first, 50), {begin + 50 * kDim, begin + 100 * kDim}), 3, {});
    const std::int64_t gone = removed_below;
    index.remove(range(gone, 60).data(), 60);
    removed_below = gone + 60;
    if (first % 900 == 0) CHECK_EQ(index.size(), index.parts().count);
  }
  writing = false;
  for (std::thread& reader : readers) reader.join();
  CHECK_EQ(std::size_t{0}, wrong.load());
  CHECK_EQ(std::size_t{3000 - 27 * 60}, index.size());
  index.validate();
}

// Of an id's two vectors, the replaced one and the new, a search beside an update may meet both or, where the one is
// met after it went and the other before it came, neither: more easily the more of them it asks for.
TEST(every_answer_has_every_id_once_while_vectors_are_replaced) {
  constexpr std::size_t kIds = 400;
  Index index({kDim, Metric::kL2}, {4, 10, 1});
  const std::vector<float> vectors = clustered(kIds, kDim, 9);
  std::vector<std::int64_t> ids = range(0, kIds);
  index.add(rows(ids, vectors), 1, {});
  std::atomic<bool> updating{true};
  std::atomic<std::size_t> wrong{0};
  std::thread reader([&] {
    while (updating) {
      std::vector<std::int64_t> found = search(index, {vectors.begin(), vectors.begin() + kDim}, kIds);
      std::sort(found.begin(), found.end());
      wrong += found.front() < 0 || std::adjacent_find(found.begin(), found.end()) != found.end() ? 1 : 0;
    }
  });
  for (unsigned round = 0; round < 40; ++round) {
    std::reverse(ids.begin(), ids.end());
    index.update(rows(ids, vectors), 1, {});
  }
  updating = false;
  reader.join();
  CHECK_EQ(std::size_t{0}, wrong.load());
}

// Its removed nodes have equal vectors, fill each other's links, and are too few among the others to be taken out.
TEST(an_id_replaced_by_turns_with_two_vectors_is_found_after_each) {
  constexpr std::size_t kOthers = 1200;
  Index index({kDim, Metric::kL2}, {4, 20, 1});
  index.add(rows(range(0, kOthers), clustered(kOthers, kDim, 10)), 2, {});
  const std::vector<float> turns = clustered(2, kDim, 11);
  index.add(rows(range(kOthers, 1), {turns.begin(), turns.begin() + kDim}), 1, {});
  for (std::size_t turn = 1; turn < 300; ++turn) {
    const auto begin = turns.begin() + static_cast<std::ptrdiff_t>(turn % 2 * kDim);
    const std::vector<float> vector(begin, begin + kDim);
    index.update(rows(range(kOthers, 1), vector), 1, {});
    CHECK_EQ(static_cast<std::int64_t>(kOthers), search(index, vector, 1)[0]);
  }
}

TEST(parts_restore_to_the_same_answers) {
  for (const Metric metric : {Metric::kCosine, Metric::kL2, Metric::kInnerProduct}) {
    Index index({kDim, metric}, {8, 60, 1});
    const std::vector<float> vectors = clustered(500, kDim, 8);
    index.add(rows(range(5, 500), vectors), 2, {});
    index.remove(range(5, 50).data(), 50);
    const Index::Parts parts = index.parts();
    CHECK_EQ(std::size_t{450}, parts.count);
    std::vector<float> packed;
    for (std::size_t i = 0; i < parts.count; ++i) {
      const auto* bytes = static_cast<const std::uint8_t*>(parts.vectors) + i * parts.stride_bytes;
      const auto* row = reinterpret_cast<const float*>(bytes);
      packed.insert(packed.end(), row, row + kDim);
    }
    Index again({kDim, metric}, {8, 60, 1});
    again.restore(parts.count, parts.ids, packed.data(), parts.graph);
    CHECK(search(index, vectors, 4) == search(again, vectors, 4));
    again.add(rows(range(0, 5), {vectors.begin(), vectors.begin() + 5 * kDim}), 1, {});
    CHECK_EQ(std::size_t{455}, again.size());
  }
}
