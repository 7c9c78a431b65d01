// Is this a graph that can be searched? Shipped, not only tested: bytes from elsewhere are not trusted.
#pragma once

#include <cstddef>

#include "hnsw/graph.h"

namespace akidb::hnsw {

struct Census {
  std::size_t nodes = 0;
  std::size_t links = 0;        // on level 0
  std::size_t unreachable = 0;  // nodes that no path of level 0 leads to from the entry point
  unsigned level = 0;           // of the entry point
};

// Checks for the first `count` nodes: links lead to other nodes that exist and reach up to the link's level, none
// twice in a row; rows are filled from the front; the entry point is on the highest level. Throws Error(kCorruption)
// naming the first node found wrong. Unreachable nodes are no error: the heuristic and deletes leave a few now and
// then, and searches by upper levels or filters may still meet them.
template <class G>
Census validate(const G& graph, std::size_t count);

extern template Census validate(const Graph&, std::size_t);
extern template Census validate(const GraphView&, std::size_t);

}  // namespace akidb::hnsw
