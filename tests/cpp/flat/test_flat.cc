// Exact search against a plain loop over the same kernels: rows and distances must be equal to the bit, ties included.
#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "check.h"
#include "flat/flat.h"

using namespace akidb;

namespace {

struct Answer {
  std::vector<std::int64_t> rows;
  std::vector<float> distances;
};

Answer run(const flat::Rows& rows, const flat::Request& request) {
  Answer answer{std::vector<std::int64_t>(request.query_count * request.k, -7),
                std::vector<float>(request.query_count * request.k, -7.0F)};
  flat::search(rows, request, answer.rows.data(), answer.distances.data());
  return answer;
}

float distance(const flat::Rows& rows, const void* query, std::size_t row) {
  const auto* vector = static_cast<const std::uint8_t*>(rows.vectors) + row * vector_bytes(rows.type, rows.dim);
  const float sum = kernels().of(rows.type, rows.metric).single(query, vector, rows.dim);
  if (rows.metric == Metric::kL2) return sum;
  if (rows.metric == Metric::kInnerProduct) return -sum;
  return 1.0F - sum * inverse_norm(rows.type, query, rows.dim) * inverse_norm(rows.type, vector, rows.dim);
}

Answer oracle(const flat::Rows& rows, const flat::Request& request) {
  Answer answer;
  for (std::size_t q = 0; q < request.query_count; ++q) {
    std::vector<std::pair<float, std::int64_t>> all;
    for (std::size_t row = 0; row < rows.count; ++row) {
      if (request.allowed != nullptr && request.allowed[row] == 0) continue;
      const auto* query = static_cast<const std::uint8_t*>(request.queries) + q * vector_bytes(rows.type, rows.dim);
      all.emplace_back(distance(rows, query, row), static_cast<std::int64_t>(row));
    }
    std::sort(all.begin(), all.end());
    all.resize(std::min(all.size(), request.k));
    for (std::size_t i = 0; i < request.k; ++i) {
      answer.rows.push_back(i < all.size() ? all[i].second : -1);
      answer.distances.push_back(i < all.size() ? all[i].first : std::numeric_limits<float>::infinity());
    }
  }
  return answer;
}

void check_same(const Answer& expected, const Answer& actual) {
  CHECK_EQ(expected.rows.size(), actual.rows.size());
  for (std::size_t i = 0; i < expected.rows.size(); ++i) {
    CHECK_EQ(expected.rows[i], actual.rows[i]);
    CHECK_EQ(expected.distances[i], actual.distances[i]);
  }
}

// Coarse values, so that many distances are equal and ties are decided.
std::vector<float> coarse_vectors(std::size_t size, unsigned seed) {
  std::mt19937 random(seed);
  std::uniform_int_distribution<int> integer(-2, 2);
  std::vector<float> values(size);
  for (float& value : values) value = 0.37F * static_cast<float>(integer(random));
  return values;
}

std::vector<std::uint8_t> mask(std::size_t count, double share, unsigned seed) {
  std::mt19937 random(seed);
  std::bernoulli_distribution passes(share);
  std::vector<std::uint8_t> allowed(count);
  for (auto& byte : allowed) byte = passes(random) ? static_cast<std::uint8_t>(1 + random() % 255) : 0;
  return allowed;
}

}  // namespace

TEST(answers_equal_the_plain_loop_for_all_shapes) {
  constexpr std::size_t kCount = 5003;  // more than one block at every dim below
  constexpr std::size_t kQueries = 70;  // more than one tile
  for (const std::size_t dim : {1, 7, 100}) {
    const std::vector<float> vectors = coarse_vectors(kCount * dim, 1);
    const std::vector<float> queries = coarse_vectors(kQueries * dim, 2);
    for (const Metric metric : {Metric::kCosine, Metric::kL2, Metric::kInnerProduct}) {
      for (const std::size_t count : {std::size_t{0}, std::size_t{1}, std::size_t{6}, kCount}) {
        const flat::Rows rows{vectors.data(), nullptr, count, dim, metric};
        for (const std::size_t query_count :
             {std::size_t{0}, std::size_t{1}, count < 100 ? kQueries : std::size_t{3}}) {
          for (const std::size_t k : {0, 1, 10}) {
            flat::Request request{.queries = queries.data(), .query_count = query_count, .k = k};
            const Answer expected = oracle(rows, request);
            for (const unsigned threads : {0U, 1U, 5U}) {
              request.threads = threads;
              check_same(expected, run(rows, request));
            }
          }
        }
      }
    }
  }
}

TEST(many_queries_in_tiles_on_many_threads) {
  const std::vector<float> vectors = coarse_vectors(20000 * 8, 3);
  const std::vector<float> queries = coarse_vectors(150 * 8, 4);
  const flat::Rows rows{vectors.data(), nullptr, 20000, 8, Metric::kL2};
  const flat::Request request{.queries = queries.data(), .query_count = 150, .k = 20, .threads = 3};
  check_same(oracle(rows, request), run(rows, request));
}

// Enough queries for a screen, also on many threads, under masks, and in passes of unequal length.
TEST(many_queries_find_what_each_finds_alone) {
  constexpr std::size_t kCount = 6007;
  constexpr std::size_t kQueries = 300;
  std::mt19937 random(13);
  std::normal_distribution<float> normal;
  for (const std::size_t dim : {5, 130}) {
    for (const float offset : {0.0F, 1000.0F}) {  // far from the origin squares and products cancel
      std::vector<float> vectors(kCount * dim);
      for (float& value : vectors) value = offset + normal(random);
      for (std::size_t row = 7; row < kCount; row += 7) {  // and rows tie, or nearly
        std::copy_n(vectors.begin() + static_cast<std::ptrdiff_t>((row - 7) * dim), dim,
                    vectors.begin() + static_cast<std::ptrdiff_t>(row * dim));
        if (row % 2 == 0) vectors[row * dim] = std::nextafter(vectors[row * dim], 0.0F);
      }
      const std::vector<float> queries(vectors.begin(), vectors.begin() + static_cast<std::ptrdiff_t>(kQueries * dim));
      const std::vector<std::uint8_t> allowed = mask(kCount, 0.5, 14);
      for (const Metric metric : {Metric::kL2, Metric::kInnerProduct, Metric::kCosine}) {
        const flat::Rows rows{vectors.data(), nullptr, kCount, dim, metric};
        for (const std::uint8_t* passing : {static_cast<const std::uint8_t*>(nullptr), allowed.data()}) {
          flat::Request request{.queries = queries.data(), .query_count = kQueries, .k = 12, .allowed = passing};
          request.threads = 3;
          const Answer together = run(rows, request);
          request.query_count = 1;
          for (std::size_t q = 0; q < kQueries; q += 11) {
            request.queries = queries.data() + q * dim;
            const Answer alone = run(rows, request);
            for (std::size_t i = 0; i < request.k; ++i) {
              CHECK_EQ(alone.rows[i], together.rows[q * request.k + i]);
              CHECK_EQ(alone.distances[i], together.distances[q * request.k + i]);
            }
          }
        }
      }
    }
  }
}

TEST(many_queries_find_rows_whose_distance_overflows_last) {
  constexpr std::size_t kCount = 1000;
  std::mt19937 random(15);
  std::vector<float> vectors(kCount * 6);
  for (float& value : vectors) value = random() % 3 == 0 ? 3e38F : static_cast<float>(random() % 5) - 2.0F;
  for (const Metric metric : {Metric::kL2, Metric::kInnerProduct, Metric::kCosine}) {
    const flat::Rows rows{vectors.data(), nullptr, kCount, 6, metric};
    for (const std::size_t k : {1, 15}) {
      const Answer together = run(rows, {.queries = vectors.data(), .query_count = 64, .k = k, .threads = 2});
      for (std::size_t q = 0; q < 64; ++q) {
        const Answer alone = run(rows, {.queries = vectors.data() + q * 6, .query_count = 1, .k = k});
        for (std::size_t i = 0; i < k; ++i) {
          CHECK_EQ(alone.rows[i], together.rows[q * k + i]);
          CHECK_EQ(alone.distances[i], together.distances[q * k + i]);
        }
      }
    }
  }
}

TEST(every_type_of_element_is_searched) {
  constexpr std::size_t kCount = 3001;
  constexpr std::size_t kQueries = 41;  // enough for a screen
  std::mt19937 random(12);
  for (const std::size_t dim : {8, 40, 136}) {
    for (std::size_t type = 0; type < kElementTypes; ++type) {
      const auto element = static_cast<ElementType>(type);
      // Bytes whose exponents, read as floats of 16 or 32 bits, are small: no NaN, no infinity.
      std::vector<std::uint8_t> bytes(vector_bytes(element, dim) * (kCount + kQueries));
      for (auto& byte : bytes) byte = static_cast<std::uint8_t>(is_float(element) ? random() % 64 : random());
      const void* queries = bytes.data() + vector_bytes(element, dim) * kCount;
      for (const Metric metric : {Metric::kL2, Metric::kCosine, Metric::kInnerProduct}) {
        if (element == ElementType::kBinary && metric != Metric::kL2) continue;
        const flat::Rows rows{bytes.data(), nullptr, kCount, dim, metric, element};
        // 9: two tiles of four and one query beside them
        for (const std::size_t count : {std::size_t{1}, std::size_t{9}, kQueries}) {
          const flat::Request request{.queries = queries, .query_count = count, .k = 7, .threads = 2};
          check_same(oracle(rows, request), run(rows, request));
        }
      }
    }
  }
}

TEST(a_mask_restricts_the_rows_searched) {
  constexpr std::size_t kCount = 9001;
  const std::vector<float> vectors = coarse_vectors(kCount * 12, 5);
  const std::vector<float> queries = coarse_vectors(4 * 12, 6);
  for (const Metric metric : {Metric::kCosine, Metric::kL2, Metric::kInnerProduct}) {
    const flat::Rows rows{vectors.data(), nullptr, kCount, 12, metric};
    for (const double share : {0.0, 0.001, 0.05, 0.7, 1.0}) {
      const std::vector<std::uint8_t> allowed = mask(kCount, share, 7);
      const flat::Request request{
          .queries = queries.data(), .query_count = 4, .k = 25, .allowed = allowed.data(), .threads = 2};
      check_same(oracle(rows, request), run(rows, request));
    }
  }
}

TEST(more_than_there_is_is_padded) {
  const std::vector<float> vectors = {1, 0, 0, 1, 1, 1};
  const flat::Rows rows{vectors.data(), nullptr, 3, 2, Metric::kL2};
  const flat::Request request{.queries = vectors.data(), .query_count = 1, .k = 5};
  const Answer answer = run(rows, request);
  CHECK(answer.rows == (std::vector<std::int64_t>{0, 2, 1, -1, -1}));
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  CHECK(answer.distances == (std::vector<float>{0, 1, 2, kInfinity, kInfinity}));
}

TEST(stored_inverse_norms_are_used_and_equal_computed_ones) {
  const std::vector<float> vectors = coarse_vectors(500 * 9, 8);
  std::vector<float> norms(500);
  flat::inverse_norms(ElementType::kFloat32, vectors.data(), 500, 9, 3, norms.data());
  for (std::size_t i = 0; i < 500; ++i) CHECK_EQ(inverse_norm(vectors.data() + i * 9, 9), norms[i]);
  flat::Rows rows{vectors.data(), nullptr, 500, 9, Metric::kCosine};
  const flat::Request request{.queries = vectors.data(), .query_count = 3, .k = 30};
  const Answer expected = run(rows, request);
  rows.inverse_norms = norms.data();
  check_same(expected, run(rows, request));
  norms[0] = 0.0F;
  CHECK(run(rows, request).rows[0] != 0);
}

TEST(equal_vectors_tie_wherever_they_lie) {
  // 0.1 is not exact in binary: were a row's value to depend on its place in a batch, the copies would not tie.
  std::mt19937 random(9);
  std::normal_distribution<float> normal;
  std::vector<float> one(101);
  for (float& x : one) x = 0.1F * normal(random);
  std::vector<float> vectors;
  for (int copy = 0; copy < 4099; ++copy) vectors.insert(vectors.end(), one.begin(), one.end());
  std::vector<float> query(101);
  for (float& x : query) x = normal(random);
  const flat::Rows rows{vectors.data(), nullptr, 4099, 101, Metric::kCosine};
  const Answer answer = run(rows, {.queries = query.data(), .query_count = 1, .k = 4099, .threads = 3});
  for (std::int64_t i = 0; i < 4099; ++i) CHECK_EQ(i, answer.rows[static_cast<std::size_t>(i)]);
}

TEST(a_distance_that_is_not_a_number_comes_last) {
  constexpr float kHuge = 3e38F;  // its squares overflow: inf - inf in the dot product
  const std::vector<float> vectors = {kHuge, -kHuge, 0.0F, 1.0F, 1.0F, 0.0F};
  const std::vector<float> query = {kHuge, kHuge};
  const flat::Rows rows{vectors.data(), nullptr, 3, 2, Metric::kInnerProduct};
  for (const std::size_t k : {2, 3}) {
    const Answer answer = run(rows, {.queries = query.data(), .query_count = 1, .k = k});
    CHECK_EQ(1, answer.rows[0]);
    CHECK_EQ(2, answer.rows[1]);
    if (k == 3) CHECK(answer.rows[2] == 0 && std::isinf(answer.distances[2]));
  }
}

TEST(a_passed_deadline_and_a_raised_flag_are_errors_of_their_kind) {
  const std::vector<float> vectors = coarse_vectors(64, 10);
  const flat::Rows rows{vectors.data(), nullptr, 8, 8, Metric::kL2};
  flat::Request request{.queries = vectors.data(), .query_count = 1, .k = 1};
  request.stop.deadline = Deadline::after_seconds(0);
  CHECK(test::thrown_by<Error>([&] { run(rows, request); }).kind() == ErrorKind::kDeadlineExceeded);
  CancelFlag flag;
  flag.raise();
  request.stop = {Deadline(), &flag};
  CHECK(test::thrown_by<Error>([&] { run(rows, request); }).kind() == ErrorKind::kCancelled);
}

// There are no rows to scan, so only what gathers the answers can see it.
TEST(gathering_the_answers_stops_at_the_deadline_too) {
  const std::vector<float> query = coarse_vectors(8, 10);
  const flat::Rows rows{query.data(), nullptr, 0, 8, Metric::kL2};
  flat::Request request{.queries = query.data(), .query_count = 1, .k = 1};
  request.stop.deadline = Deadline::after_seconds(0);
  CHECK(test::thrown_by<Error>([&] { run(rows, request); }).kind() == ErrorKind::kDeadlineExceeded);
}

TEST(a_search_under_way_stops_at_its_deadline) {
  // Half a minute of work at least, so the deadline falls into
  // it; were it checked at the start only, an answer would come.
  constexpr std::size_t kCount = 100'000;
  const std::vector<float> vectors = coarse_vectors(kCount * 16, 11);
  const flat::Rows rows{vectors.data(), nullptr, kCount, 16, Metric::kL2};
  flat::Request request{.queries = vectors.data(), .query_count = kCount, .k = 1, .threads = 2};
  request.stop.deadline = Deadline::after_seconds(0.05);
  CHECK(test::thrown_by<Error>([&] { run(rows, request); }).kind() == ErrorKind::kDeadlineExceeded);
}
