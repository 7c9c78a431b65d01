// One graph from those of parts of its nodes.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "hnsw/graph.h"
#include "hnsw/insert.h"
#include "hnsw/order.h"

namespace akidb::hnsw {

// Rows that are to be merged with others'.
struct MergePart {
  const GraphView* graph = nullptr;    // null: none was built
  Order order;                         // of its nodes
  std::span<const std::uint8_t> live;  // one per row, 0: it is left out
};

// The graph of all rows of `parts` that are live, part after part, whose vectors are `vectors` in this order.
//
// The largest graph of the same params is taken over, its links repaired where nodes are left out (`Repair`). The
// other nodes are inserted into it by walks that begin at their own neighbours and are a fraction as wide as those of a
// build: first those of the upper levels by full walks, so that every region is joined to the rest before its others
// follow, which is the idea of the join sets of Apache Lucene's merge of HNSW graphs. Nodes of a part without a graph
// are inserted as by a build. Where no graph can be taken over, all nodes are inserted into an empty one. In the end
// those that nothing near leads to get a link (`lead_back`).
//
// Beside `vectors` and `parts` it holds the new graph, about (2m + 2) x 4 bytes a node, and while it works the codes of
// insert_all and 4 bytes a node. Throws Error as build does, and kCorruption where a link leads nowhere.
std::unique_ptr<Graph> merge(const Params& params, const Vectors& vectors, std::span<const MergePart> parts,
                             unsigned threads, const Progress& progress);

}  // namespace akidb::hnsw
