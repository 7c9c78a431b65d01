// The order of nodes. A graph that grows numbers nodes as their vectors lie; a sealed one numbers them so that those a
// walk meets together lie together, and says of each which vector it is.
#pragma once

#include <cstddef>
#include <vector>

#include "hnsw/params.h"

namespace akidb::hnsw {

class Graph;

// Which row of the vectors a node is, and the other way round; not owned. Without arrays, node i is row i.
struct Order {
  const Node* rows = nullptr;   // of each node
  const Node* nodes = nullptr;  // of each row
  std::size_t count = 0;

  // Compared with the count at every use: the arrays may lie in bytes from elsewhere. Throws Error(kCorruption).
  Node row_of(Node node) const { return rows == nullptr ? node : checked(rows[node]); }
  Node node_of(Node row) const { return nodes == nullptr ? row : checked(nodes[row]); }

  // Throws Error(kCorruption) where the arrays are not each other's inverse.
  void check() const;

 private:
  Node checked(Node number) const {
    if (number >= count) throw_damaged();
    return number;
  }
  [[noreturn]] static void throw_damaged();
};

// The rows of a graph's first `count` nodes in an order in which linked nodes lie close. Greedy, as Gorder (Wei, Yu, Lu
// and Lin, "Speedup graph processing by graph ordering", SIGMOD 2016): next comes the node that has most links with the
// 16 nodes before it. Gorder also counts neighbours in common; on graphs of nearest neighbours that took four times as
// long and walks were no faster for it.
std::vector<Node> locality_order(const Graph& graph, std::size_t count);

}  // namespace akidb::hnsw
