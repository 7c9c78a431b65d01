// Inserting many nodes at once: cells have every node once, panels compare as codes do, and graphs are sound,
// near-exact and the same from any number of threads.
#include <algorithm>
#include <cstdint>
#include <limits>
#include <numeric>
#include <random>
#include <vector>

#include "check.h"
#include "common/error.h"
#include "data.h"
#include "hnsw/cells.h"
#include "hnsw/code_probe.h"
#include "hnsw/connect.h"
#include "hnsw/insert.h"
#include "hnsw/search.h"
#include "hnsw/validate.h"

using namespace akidb;
using namespace akidb::hnsw;
using namespace akidb::test;

namespace {

constexpr std::size_t kDim = 60;  // codes are padded to 64
constexpr std::size_t kCount = 2500;

// Codes of 8 bits of some vectors.
struct Coded {
  explicit Coded(const std::vector<float>& values)
      : vectors(rows_of(values, kDim)),
        count(values.size() / kDim),
        centre(kDim),
        factors(count),
        rows(count * shape.row_bytes()) {
    const quantization::Source source{vectors.type, vectors.data, vectors.stride_bytes};
    quantization::find_centre(shape, source, count, centre.data());
    quantization::encode(shape, centre.data(), source, count, 2, factors.data(), rows.data());
    codes = {shape, centre.data(), factors.data(), rows.data()};
  }

  Vectors vectors;
  std::size_t count;
  quantization::CodeShape shape{kDim, quantization::CodeBits::kEight, Metric::kL2};
  std::vector<float> centre;
  AlignedBuffer<quantization::Factors> factors;
  AlignedBuffer<std::uint8_t> rows;
  quantization::Codes codes;
};

std::vector<Node> every(std::size_t count) {
  std::vector<Node> nodes(count);
  std::iota(nodes.begin(), nodes.end(), Node{0});
  return nodes;
}

// How many of the ten nearest of each query are found.
std::size_t found(const Graph& graph, const Vectors& vectors, std::size_t count, std::size_t ef,
                  const std::vector<float>& queries = clustered(100, kDim, 4)) {
  const std::size_t query_count = queries.size() / kDim;
  Request request;
  request.queries = queries.data();
  request.query_count = query_count;
  request.k = 10;
  request.ef = ef;
  request.count = count;
  std::vector<std::int64_t> nodes(query_count * 10);
  std::vector<float> distances(query_count * 10);
  search(graph, vectors, request, nodes.data(), distances.data());
  std::size_t hits = 0;
  for (std::size_t q = 0; q < query_count; ++q) {
    for (const std::int64_t node : nearest(vectors, count, &queries[q * kDim], 10))
      hits += std::count(&nodes[q * 10], &nodes[q * 10] + 10, node);
  }
  return hits;
}

std::vector<Node> links(const Graph& graph) {
  return {graph.base_row(0), graph.base_row(static_cast<Node>(graph.capacity()))};
}

}  // namespace

TEST(every_node_is_in_one_cell_and_in_one_place_of_its_panels) {
  const std::vector<float> values = clustered(kCount, kDim, 3);
  const Coded coded(values);
  std::vector<Node> nodes = every(kCount);
  std::erase_if(nodes, [](Node node) { return node % 3 == 0; });
  const Cells cells(coded.codes, coded.vectors, nodes, 2, [] {});
  CHECK(cells.size() > 20);
  std::vector<Node> members;
  std::vector<Node> placed;
  std::vector<std::size_t> panels;
  for (std::size_t cell = 0; cell < cells.size(); ++cell) {
    members.insert(members.end(), cells.members(cell).begin(), cells.members(cell).end());
    if (cells.members(cell).empty()) continue;
    const std::uint32_t first = 0;
    cells.near(cell, {&first, 1}, cells.members(cell).size(), panels);
    for (const std::size_t panel : panels) {
      for (std::size_t r = 0; r < kCodePanel; ++r) {
        if (const Node node = cells.panels().nodes(panel)[r]; node != kNoNode) placed.push_back(node);
      }
    }
  }
  CHECK(std::equal(members.begin(), members.end(), cells.nodes().begin(), cells.nodes().end()));
  std::sort(members.begin(), members.end());
  CHECK(members == nodes);
  std::sort(placed.begin(), placed.end());
  CHECK(placed == nodes);
}

TEST(what_is_near_comes_first_and_no_panel_twice) {
  const std::vector<float> values = clustered(kCount, kDim, 3);
  const Coded coded(values);
  const std::vector<Node> nodes = every(kCount);
  const Cells cells(coded.codes, coded.vectors, nodes, 2, [] {});
  std::size_t hits = 0;
  for (std::size_t cell = 0; cell < cells.size(); ++cell) {
    if (cells.members(cell).empty()) continue;
    const auto last = static_cast<std::uint32_t>(cells.members(cell).size() - 1);
    std::vector<std::size_t> panels;
    cells.near(cell, {&last, 1}, kCount / 4, panels);
    std::vector<Node> met;
    for (const std::size_t panel : panels) {
      const Node* at = cells.panels().nodes(panel);
      std::copy_if(at, at + kCodePanel, std::back_inserter(met), [](Node node) { return node != kNoNode; });
    }
    CHECK(met.size() <= kCount / 4 + kCodePanel);
    std::sort(met.begin(), met.end());
    CHECK(std::adjacent_find(met.begin(), met.end()) == met.end());
    const Node node = cells.members(cell)[last];
    for (const std::int64_t near : nearest(coded.vectors, kCount, &values[node * kDim], 10))
      hits += static_cast<std::size_t>(std::binary_search(met.begin(), met.end(), static_cast<Node>(near)));
  }
  CHECK(hits >= cells.size() * 10 * 9 / 10);
}

TEST(panels_compare_as_codes_do) {
  const std::vector<float> values = clustered(37, kDim, 3);
  const Coded coded(values);
  CodePanels panels(coded.codes, 3);
  for (Node node = 0; node < 37; ++node) panels.set(node + 5, node);  // some places stay empty
  std::vector<quantization::CodedQuery> queries(11);
  for (Node q = 0; q < 11; ++q) queries[q].prepare(coded.codes, coded.vectors.type, coded.vectors.row(q), 0);
  for (std::size_t panel = 0; panel < 3; ++panel) {
    std::size_t taken = 0;
    panels.compare(panel, queries, [&](std::size_t q, const float* distances) {
      ++taken;
      for (std::size_t r = 0; r < kCodePanel; ++r) {
        const Node node = panels.nodes(panel)[r];
        const float expected =
            node == kNoNode ? std::numeric_limits<float>::infinity() : CodeProbe(coded.codes, queries[q])(node);
        CHECK(distances[r] == expected);
      }
    });
    CHECK_EQ(std::size_t{11}, taken);
  }
}

TEST(distances_within_a_bound_are_taken_each) {
  std::vector<float> distances(kCodePanel);
  for (std::size_t r = 0; r < kCodePanel; ++r) distances[r] = static_cast<float>(r * 7 % kCodePanel);
  for (const float bound : {-1.0F, 0.0F, 4.0F, 15.0F}) {
    std::vector<float> within;
    for_each_within(distances.data(), bound, [&](std::size_t r) {
      CHECK(distances[r] <= bound);
      within.push_back(distances[r]);
    });
    CHECK_EQ(static_cast<std::size_t>(bound + 1), within.size());
  }
  distances[3] = std::numeric_limits<float>::quiet_NaN();
  for_each_within(distances.data(), std::numeric_limits<float>::infinity(), [](std::size_t r) { CHECK(r != 3); });
}

TEST(many_nodes_at_once_find_each_other_from_any_number_of_threads) {
  std::vector<float> values = clustered(kCount, kDim, 3);
  const Vectors vectors = rows_of(values, kDim);
  std::vector<Node> first;
  for (const unsigned threads : {1U, 3U}) {
    Graph graph({8, 100, 1}, kCount);
    build(graph, vectors, 0, kCount, threads, {});
    if (first.empty()) first = links(graph);
    CHECK(links(graph) == first);
    CHECK(validate(graph, kCount).unreachable <= kCount / 500);
    CHECK(found(graph, vectors, kCount, 100) >= 985);
  }
}

TEST(nodes_join_a_graph_that_is_there) {
  const std::vector<float> values = clustered(kCount, kDim, 3);
  const Vectors vectors = rows_of(values, kDim);
  Graph graph({8, 100, 1}, kCount);
  const std::size_t before = kCount / 2;
  build(graph, vectors, 0, before, 2, {});
  build(graph, vectors, static_cast<Node>(before), kCount - before, 2, {});
  CHECK(validate(graph, kCount).unreachable <= kCount / 500);
  CHECK(found(graph, vectors, kCount, 100) >= 985);
}

// At m 512 one node of 512 is above level 0 on average: with this seed none of 1,000 is.
TEST(nodes_of_level_0_alone_have_an_entry_point) {
  const std::vector<float> values = clustered(1000, kDim, 3);
  const Vectors vectors = rows_of(values, kDim);
  Graph graph({512, 100, 11}, 1000);
  for (Node node = 0; node < 1000; ++node) CHECK_EQ(0U, graph.level(node));
  build(graph, vectors, 0, 1000, 2, {});
  CHECK_EQ(std::size_t{0}, validate(graph, 1000).unreachable);
  CHECK(found(graph, vectors, 1000, 100) >= 985);
}

// Few links and clusters of 200: where each node chooses among its nearest alone, they lead out of no cluster, and
// 1,897 are found.
TEST(links_have_every_length) {
  constexpr std::size_t kRows = 6000;
  constexpr std::size_t kClusters = 30;
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  const std::vector<float> centres = clustered(kClusters, kDim, 5);
  const auto draw = [&](std::size_t count) {
    std::vector<float> out(count * kDim);
    for (std::size_t i = 0; i < out.size(); ++i)
      out[i] = normal(random) + centres[i / kDim % kClusters * kDim + i % kDim];
    return out;
  };
  const std::vector<float> values = draw(kRows);
  const Vectors vectors = rows_of(values, kDim);
  Graph graph({4, 100, 1}, kRows);
  build(graph, vectors, 0, kRows, 2, {});
  connect(graph, vectors, kRows);
  CHECK(found(graph, vectors, kRows, 50, draw(200)) >= 1930);  // of 2,000; 1,959 are
}

TEST(equal_vectors_and_few_kinds_of_them_join) {
  for (const std::size_t kinds : {1, 3, 40}) {
    std::vector<float> values(1500 * kDim);
    for (std::size_t i = 0; i < values.size(); ++i)
      values[i] = static_cast<float>((i / kDim % kinds) * (i % kDim + 1) % 17);
    const Vectors vectors = rows_of(values, kDim);
    Graph graph({4, 120, 1}, 1500);
    build(graph, vectors, 0, 1500, 2, {});
    connect(graph, vectors, 1500);
    CHECK_EQ(std::size_t{0}, validate(graph, 1500).unreachable);
  }
}

TEST(joining_is_stopped_between_groups_and_tells_its_progress) {
  const std::vector<float> values = clustered(kCount, kDim, 3);
  const Vectors vectors = rows_of(values, kDim);
  Graph graph({8, 100, 1}, kCount);
  std::size_t last = 0;
  build(graph, vectors, 0, kCount, 2, [&](std::size_t done, std::size_t total) {
    CHECK(done >= last && done <= total);
    last = done;
    return true;
  });
  CHECK_EQ(kCount, last);
  Graph stopped({8, 100, 1}, kCount);
  bool thrown = false;
  try {
    build(stopped, vectors, 0, kCount, 2, [](std::size_t done, std::size_t) { return done < kCount / 2; });
  } catch (const Error& error) {
    thrown = error.kind() == ErrorKind::kCancelled;
  }
  CHECK(thrown);
}
