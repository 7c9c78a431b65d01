// A search that is told to stop while it is under way: in whichever part of it, and long before that part's end.
#include <vector>

#include "check.h"
#include "data.h"
#include "hnsw/insert.h"
#include "hnsw/scan.h"
#include "hnsw/search.h"
#include "hnsw/walk.h"

using namespace akidb;
using namespace akidb::hnsw;
using namespace akidb::test;

namespace {

constexpr std::size_t kDim = 8;
constexpr std::size_t kCount = 4000;

struct Built {
  Built() : values(clustered(kCount, kDim, 1)), vectors(rows_of(values, kDim)), graph({8, 30, 1}, kCount) {
    build(graph, vectors, 0, kCount, 1, {});
  }
  std::vector<float> values;
  Vectors vectors;
  Graph graph;
};

// A probe that raises a flag at the first distance it is asked for, and counts how many it is asked for in all.
class Raising {
 public:
  explicit Raising(const Vectors& vectors) : probe_(vectors, Node{0}) {}

  float operator()(Node node) const {
    note(1);
    return probe_(node);
  }
  void four(const Node* nodes, float* out) const {
    note(4);
    probe_.four(nodes, out);
  }
  void run(Node first, std::size_t count, float* out) const {
    note(count);
    probe_.run(first, count, out);
  }
  void prefetch_row(Node node) const { probe_.prefetch_row(node); }

  // Calls work(stop), which must end by the flag, and then by a deadline that has passed.
  template <class Work>
  std::size_t compared_until_stopped(const Work& work) {
    compared_ = 0;
    Stop raised;
    raised.cancel = &flag_;
    CHECK(thrown_by<Error>([&] { work(raised); }).kind() == ErrorKind::kCancelled);
    const std::size_t compared = compared_;
    Stop late;
    late.deadline = Deadline::after_seconds(0);
    CHECK(thrown_by<Error>([&] { work(late); }).kind() == ErrorKind::kDeadlineExceeded);
    return compared;
  }

 private:
  void note(std::size_t count) const {
    compared_ += count;
    flag_.raise();
  }

  Probe probe_;
  mutable CancelFlag flag_;
  mutable std::size_t compared_ = 0;
};

// A scratch from which a walk meets all nodes.
Scratch& at_the_entry(const Graph& graph) {
  Scratch& scratch = Scratch::of_this_thread();
  scratch.visited.begin(graph.limit());
  scratch.visited.insert(graph.entry().node);
  scratch.pool.reset(graph.limit());
  scratch.pool.insert({0.0F, graph.entry().node});
  return scratch;
}

}  // namespace

TEST(a_walk_stops) {
  const Built built;
  Raising probe(built.vectors);
  const std::size_t compared = probe.compared_until_stopped([&](const Stop& stop) {
    walk_layer(built.graph, probe, 0, &stop, at_the_entry(built.graph), [](float, Node) {});
  });
  CHECK(compared < kCount / 2);
}

TEST(a_walk_among_those_that_pass_stops) {
  const Built built;
  Raising probe(built.vectors);
  const std::size_t compared = probe.compared_until_stopped([&](const Stop& stop) {
    walk_admitted(built.graph, probe, stop, at_the_entry(built.graph), [](Node node) { return node % 10 != 0; });
  });
  CHECK(compared < kCount / 2);
}

TEST(a_scan_of_all_stops_within_a_block) {
  const Built built;
  Raising probe(built.vectors);
  std::vector<Candidate> held;
  Nearest nearest(10, held);
  const std::size_t compared = probe.compared_until_stopped(
      [&](const Stop& stop) { scan_all(probe, kCount, stop, nearest, [](Node) { return true; }); });
  CHECK_EQ(kScanBlock, compared);
}

TEST(a_scan_of_those_that_pass_stops_within_a_block) {
  const Built built;
  Raising probe(built.vectors);
  std::vector<Candidate> held;
  Nearest nearest(10, held);
  std::vector<Node> nodes;
  for (Node node = 0; node < kCount; node += 2) nodes.push_back(node);
  const std::size_t compared = probe.compared_until_stopped(
      [&](const Stop& stop) { scan_nodes(probe, nodes, stop, nearest, [](Node) { return true; }); });
  CHECK_EQ(kScanBlock, compared);
}

// The scans of one query over vectors of the greatest dim, all of them the same bytes: seconds of work, so that the
// deadline falls into it; were it not handed on, an answer would come.
struct Long {
  static constexpr std::size_t kRows = 100'000;

  Long() : values(kDimMax, 1.0F), allowed(kRows, 1), graph({64, 10, 1}, kRows, std::vector<std::uint8_t>(kRows)) {
    allowed[7] = 0;
    graph.set_entry({0, 0});
  }
  Error stopped(const quantization::Codes* codes) const {
    Request request;
    request.queries = values.data();
    request.query_count = 1;
    request.k = 10;
    request.ef = 1200;  // and many links: which makes a scan cheaper than a walk
    request.count = kRows;
    request.allowed = allowed.data();
    request.codes = codes;
    request.stop.deadline = Deadline::after_seconds(0.05);
    const Vectors vectors{ElementType::kFloat32, values.data(), 0, kDimMax, nullptr, Metric::kL2};
    std::vector<std::int64_t> rows(request.k);
    std::vector<float> distances(request.k);
    return thrown_by<Error>([&] { search(graph, vectors, request, rows.data(), distances.data()); });
  }

  std::vector<float> values;
  std::vector<std::uint8_t> allowed;
  Graph graph;
};

TEST(a_search_that_scans_stops_at_its_deadline) {
  CHECK(Long().stopped(nullptr).kind() == ErrorKind::kDeadlineExceeded);
}

// All codes are the same, so that it is open after the scan of them which of the vectors are nearest.
TEST(a_search_that_scans_again_without_its_codes_stops_at_its_deadline) {
  const quantization::CodeShape shape{1, quantization::CodeBits::kFour, Metric::kL2};
  const float centre = 0.0F;
  const std::vector<quantization::Factors> factors(Long::kRows);
  const AlignedBuffer<std::uint8_t> codes(Long::kRows * shape.row_bytes());
  const quantization::Codes all{shape, &centre, factors.data(), codes.data()};
  CHECK(Long().stopped(&all).kind() == ErrorKind::kDeadlineExceeded);
}
