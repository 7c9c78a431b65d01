// Making every node reachable.
#pragma once

#include <cstddef>

#include "hnsw/graph.h"
#include "hnsw/vectors.h"

namespace akidb::hnsw {

// Gives each node that no path of level 0 leads to from the entry point a link from a reachable neighbour, and returns
// how many got one. Full rows lose the links to some nodes when they are chosen anew; of many equal vectors nearly all
// end up so, since nothing tells the newest from the others. No insert may run meanwhile, searches may.
std::size_t connect(Graph& graph, const Vectors& vectors, std::size_t count);

}  // namespace akidb::hnsw
