// Putting nodes into a graph.
#pragma once

#include <functional>
#include <span>

#include "hnsw/graph.h"
#include "hnsw/vectors.h"
#include "hnsw/walk.h"

namespace akidb::hnsw {

// Whether the probe's point is nearer to any of the nodes than `distance`.
bool nearer_to_any(const Probe& probe, std::span<const Node> nodes, float distance);

// Algorithm 4 of the paper, SELECT-NEIGHBORS-HEURISTIC: of candidates in ascending order of distance to a point, those
// that are nearer to the point than to any already chosen, at most `limit`. Returns how many were written to `chosen`.
std::size_t select_neighbors(const Vectors& vectors, std::span<const Candidate> candidates, std::size_t limit,
                             Candidate* chosen);

// Algorithm 1 of the paper, INSERT. The vector must be in place; any number of threads may insert different nodes, and
// search. With codes (of all nodes), the walk compares them, and the vectors only of the candidates it ends with.
void insert(Graph& graph, const Vectors& vectors, const quantization::Codes* codes, Node node, Scratch& scratch);

// Told now and then, on the calling thread, how many of how many nodes are in; false stops the work with
// Error(kCancelled).
using Progress = std::function<bool(std::size_t done, std::size_t total)>;

// Inserts nodes [first, first + count) on `threads` threads (0: one per processor). With one thread the graph depends
// on vectors and params alone. Where that is faster it compares 8-bit codes made for the purpose: dim + 8 bytes per
// node (nodes before `first` included) until it returns. If it throws, some of the nodes are linked and some are not.
void build(Graph& graph, const Vectors& vectors, Node first, std::size_t count, unsigned threads,
           const Progress& progress);

}  // namespace akidb::hnsw
