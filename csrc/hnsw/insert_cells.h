// Putting many nodes into a graph at once.
#pragma once

#include <cstddef>
#include <span>

#include "hnsw/insert.h"

namespace akidb::hnsw {

// Inserts nodes of level 0 into a graph that has all others of [0, count), an entry point among them. Neighbours are
// chosen by Algorithm 4 of the paper among the ef_construction nearest. But these do not come from a walk, which
// compares one by one what lies scattered: the members of a cell are compared with all that is near them, many with
// many, as in PiPNN (Rubel et al., arXiv 2602.21247). First a sixteenth of all nodes choose among each other and the
// upper levels, then as many again among an eighth, and so on to all: so there are links of every length, which walking
// gives because who comes early finds only few. The graph does not depend on the number of threads.
//
// pause(done) is called on the calling thread now and then, and may throw.
void insert_by_cells(Graph& graph, const Vectors& vectors, const Removals& removals, const quantization::Codes& codes,
                     std::size_t count, std::span<const Node> joining, unsigned threads, const Batch::Pause& pause);

}  // namespace akidb::hnsw
