// A search that is told to stop while it is under way: in whichever part of it, and long before that part's end.
#include <vector>

#include "check.h"
#include "data.h"
#include "hnsw/scan.h"
#include "hnsw/search.h"
#include "hnsw/walk.h"

using namespace akidb;
using namespace akidb::hnsw;
using namespace akidb::test;

namespace {

constexpr std::size_t kDim = 8;
constexpr std::size_t kCount = 4000;

struct Built : BuiltGraph {
  Built() : BuiltGraph(kCount, kDim, {8, 30, 1}, 1) {}
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

// One query over vectors of the greatest dim, all of them the same bytes: most of a second of work, so that the
// deadline falls into it; were it not handed on, an answer would come.
struct Long {
  Long(unsigned m, std::size_t count)
      : values(kDimMax, 1.0F), allowed(count, 1), graph({m, 10, 1}, count, std::vector<std::uint8_t>(count)) {
    graph.set_entry({0, 0});
  }
  // From node 0 to all nodes, in their order.
  void link_all() {
    const unsigned links = graph.degree(0);
    for (Node node = 0; node < (allowed.size() - 1) / links; ++node) {
      for (unsigned i = 0; i < links; ++i) Graph::store(graph.row(node, 0) + i, node * links + i + 1);
    }
  }
  Error stopped(std::size_t ef, const quantization::Codes* codes = nullptr) const {
    Request request;
    request.queries = values.data();
    request.query_count = 1;
    request.k = 1;
    request.ef = ef;
    request.count = allowed.size();
    request.allowed = is_filtered ? allowed.data() : nullptr;
    request.codes = codes;
    request.stop.deadline = Deadline::after_seconds(0.05);
    const Vectors vectors{ElementType::kFloat32, values.data(), 0, kDimMax, nullptr, Metric::kL2};
    std::int64_t row = 0;
    float distance = 0.0F;
    return thrown_by<Error>([&] { search(graph, vectors, request, &row, &distance); });
  }

  std::vector<float> values;
  std::vector<std::uint8_t> allowed;
  Graph graph;
  bool is_filtered = true;
};

// With so many links and so wide a walk, which would be dearer.
struct Scanned : Long {
  static constexpr std::size_t kRows = 100'000;
  static constexpr std::size_t kEf = 1200;

  Scanned() : Long(64, kRows) { allowed[7] = 0; }
};

// Codes that are all the same, so that they do not tell which of the vectors are nearest.
struct Vague {
  Vague() : factors(Scanned::kRows), rows(Scanned::kRows * shape.row_bytes()) {}
  quantization::Codes codes() const { return {shape, &centre, factors.data(), rows.data()}; }

  const quantization::CodeShape shape{1, quantization::CodeBits::kFour, Metric::kL2};
  const float centre = 0.0F;
  const std::vector<quantization::Factors> factors;
  const AlignedBuffer<std::uint8_t> rows;
};

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

TEST(a_search_that_walks_stops_at_its_deadline) {
  Long search(2, 250'000);
  search.link_all();
  for (const bool is_filtered : {false, true}) {
    search.is_filtered = is_filtered;
    CHECK(search.stopped(25'000).kind() == ErrorKind::kDeadlineExceeded);
  }
}

TEST(a_search_that_scans_stops_at_its_deadline) {
  CHECK(Scanned().stopped(Scanned::kEf).kind() == ErrorKind::kDeadlineExceeded);
}

TEST(a_search_that_scans_again_without_its_codes_stops_at_its_deadline) {
  const Vague vague;
  const quantization::Codes codes = vague.codes();
  CHECK(Scanned().stopped(Scanned::kEf, &codes).kind() == ErrorKind::kDeadlineExceeded);
}

TEST(a_search_that_compares_many_again_by_their_vectors_stops_at_its_deadline) {
  const Vague vague;
  const quantization::Codes codes = vague.codes();
  CHECK(Scanned().stopped(Scanned::kRows, &codes).kind() == ErrorKind::kDeadlineExceeded);
}

// Of the 2561 nodes that the walk meets the first 1700 do not pass, of those behind them every second does: it takes
// looking at the links of 3400 nodes until what passes is sure to be the nearest.
TEST(a_search_that_goes_on_from_a_walk_stops_at_its_deadline) {
  Long search(32, 250'000);
  search.link_all();
  for (std::size_t row = 0; row < search.allowed.size(); ++row)
    search.allowed[row] = row >= 1700 && (row < 2561 || row % 2 == 0) ? 1 : 0;
  CHECK(search.stopped(40).kind() == ErrorKind::kDeadlineExceeded);
}
