// How much a search compares, by what it leaves in its thread's scratch: filters that leave out what is nearest lead
// neither to walk after walk nor, where they leave out little, to a scan.
#include <algorithm>
#include <vector>

#include "check.h"
#include "data.h"
#include "hnsw/search.h"
#include "hnsw/walk.h"

using namespace akidb;
using namespace akidb::hnsw;
using namespace akidb::test;

namespace {

constexpr std::size_t kDim = 20;
constexpr std::size_t kCount = 3000;
constexpr std::size_t kK = 10;

struct Built : BuiltGraph {
  Built() : BuiltGraph(kCount, kDim, {8, 60, 1}, 3) {}
};

struct Work {
  std::size_t met = 0;       // nodes compared by the last of the walks
  std::size_t seen = 0;      // by it and by going on from it, compared or not
  bool has_scanned = false;  // all that pass, in the end
};

// Of a search for what passes where the `left_out` nearest to the query do not.
Work work_of(const Built& built, const float* query, std::size_t ef, std::size_t left_out) {
  std::vector<std::uint8_t> allowed(kCount, 1);
  for (const std::int64_t row : nearest(built.vectors, kCount, query, left_out))
    allowed[static_cast<std::size_t>(row)] = 0;
  Request request;
  request.queries = query;
  request.query_count = 1;
  request.k = kK;
  request.ef = ef;
  request.count = kCount;
  request.allowed = allowed.data();
  std::vector<std::int64_t> rows(kK);
  std::vector<float> distances(kK);
  search(built.graph, built.vectors, request, rows.data(), distances.data());
  Scratch& scratch = Scratch::of_this_thread();
  Work work{scratch.met.size(), 0, scratch.candidates.size() == kK};  // a walk keeps more than are asked for
  for (Node node = 0; node < kCount; ++node) work.seen += 1 - scratch.visited.insert(node);
  return work;
}

}  // namespace

TEST(where_the_nearest_are_left_out_there_is_one_walk) {
  const Built built;
  const std::vector<float> queries = clustered(20, kDim, 4);
  for (std::size_t at = 0; at < queries.size(); at += kDim) {
    for (const std::size_t ef : {20, 100}) {
      const std::size_t met = work_of(built, &queries[at], ef, 0).met;
      for (const std::size_t left_out : {kCount / 1000, kCount / 100, kCount / 10, kCount / 2})
        CHECK_EQ(met, work_of(built, &queries[at], ef, left_out).met);
    }
  }
}

TEST(where_few_of_the_nearest_are_left_out_going_on_costs_less_than_a_scan) {
  const Built built;
  const std::vector<float> queries = clustered(20, kDim, 4);
  for (std::size_t at = 0; at < queries.size(); at += kDim) {
    for (const std::size_t ef : {20, 100}) {
      const Work work = work_of(built, &queries[at], ef, kCount / 100);
      CHECK(!work.has_scanned);
      CHECK(work.seen < kCount / 2);
    }
  }
}
