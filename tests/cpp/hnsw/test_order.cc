// The order of nodes in a sealed graph: all of them, and linked ones close together.
#include <algorithm>
#include <cstdlib>
#include <numeric>
#include <vector>

#include "check.h"
#include "data.h"
#include "hnsw/insert.h"
#include "hnsw/order.h"

using namespace akidb;
using namespace akidb::hnsw;
using namespace akidb::test;

namespace {

constexpr std::size_t kDim = 16;
constexpr std::size_t kCount = 2000;

struct Made {
  explicit Made(std::size_t count) : values(clustered(kCount, kDim, 1)), graph({8, 60, 1}, count) {
    build(graph, rows_of(values, kDim), 0, count, 1, {});
  }
  std::vector<float> values;
  Graph graph;
};

// The share of links that lead to one of the 64 nodes before or behind.
double near_share(const Graph& graph, const std::vector<Node>& order) {
  std::vector<std::ptrdiff_t> place(order.size());
  for (std::size_t i = 0; i < order.size(); ++i) place[order[i]] = static_cast<std::ptrdiff_t>(i);
  std::size_t near = 0;
  std::size_t all = 0;
  for (Node node = 0; node < order.size(); ++node) {
    for (unsigned i = 0; i < used_links(graph, graph.base_row(node), graph.degree(0)); ++i, ++all)
      near += std::abs(place[node] - place[graph.base_row(node)[i]]) <= 64;
  }
  return static_cast<double>(near) / static_cast<double>(all);
}

}  // namespace

TEST(every_node_is_in_the_order_once) {
  for (const std::size_t count : {std::size_t{0}, std::size_t{1}, std::size_t{17}, kCount}) {
    std::vector<Node> order = locality_order(Made(count).graph, count);
    std::sort(order.begin(), order.end());
    std::vector<Node> all(count);
    std::iota(all.begin(), all.end(), Node{0});
    CHECK(order == all);
  }
}

TEST(linked_nodes_lie_close) {
  const Made made(kCount);
  const Graph& graph = made.graph;
  std::vector<Node> as_they_came(kCount);
  std::iota(as_they_came.begin(), as_they_came.end(), Node{0});
  CHECK(near_share(graph, as_they_came) < 0.1);
  CHECK(near_share(graph, locality_order(graph, kCount)) > 0.3);
}
