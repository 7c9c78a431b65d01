// Algorithm 2 of the paper, SEARCH-LAYER, as both inserting and searching use it, over either form of graph, with
// distances that a Probe or a CodeProbe gives.
#pragma once

#include <array>
#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "common/aligned_buffer.h"
#include "common/deadline.h"
#include "common/error.h"
#include "common/prefetch.h"
#include "hnsw/candidates.h"
#include "hnsw/graph.h"
#include "hnsw/vectors.h"
#include "quantization/codes.h"

namespace akidb::hnsw {

constexpr std::size_t kDegreeMax = 2 * kMMax;
constexpr std::size_t kTogether = 8;        // nodes that a walk under a filter expands at a time
constexpr std::size_t kHopsPerCheck = 256;  // of a Stop

// What a thread needs to walk; one per thread for all graphs of the process, since only one walk runs on a thread at a
// time.
struct Scratch {
  Visited visited;
  SortedPool pool;
  SortedPool exact;                   // the results, where the walk compares codes
  AlignedBuffer<std::uint8_t> row;    // read from a file
  std::vector<Candidate> met;         // every node that a walk compared
  std::vector<Candidate> candidates;  // what is kept of the pool
  std::vector<Candidate> sorted;      // the nearest of those met
  std::vector<Candidate> mates;       // nodes inserted together with the one that walks
  quantization::CodedQuery query;
  std::array<Node, kTogether * kDegreeMax> nodes;  // to compare

  static Scratch& of_this_thread() {
    thread_local Scratch scratch;
    return scratch;
  }
};

[[noreturn]] inline void throw_bad_link(Node node) {
  throw Error(ErrorKind::kCorruption, "the graph's links of node " + std::to_string(node) + " are damaged");
}

// The links of `row` to nodes that were not seen before, now marked as seen, go to `out`; their number is returned.
// Every link is compared with the number of nodes, which also ends a row at kNoNode, so damaged bytes can't lead
// outside the graph.
template <class G>
std::size_t fresh_neighbors(const G& graph, Node node, typename G::Row row, unsigned degree, Visited& visited,
                            Node* out) {
  const std::size_t limit = graph.limit();
  std::size_t fresh = 0;
  for (unsigned i = 0; i < degree; ++i) {
    const Node neighbor = graph.link(row, i);
    if (neighbor >= limit) {
      if (neighbor != kNoNode) throw_bad_link(node);
      break;
    }
    out[fresh] = neighbor;
    fresh += visited.insert(neighbor);
  }
  return fresh;
}

// Calls take(distance, node) for each of `nodes`, in their order. They are fetched ahead of the distances in fours:
// cache misses of several vectors are in flight at any time.
template <class P, class Take>
void compare_nodes(const P& probe, std::span<const Node> nodes, Take&& take) {
  constexpr std::size_t kAhead = 8;
  const std::size_t count = nodes.size();
  for (std::size_t i = 0; i < std::min(count, kAhead); ++i) probe.prefetch_row(nodes[i]);
  std::size_t i = 0;
  float distances[4];
  for (; i + 4 <= count; i += 4) {
    for (std::size_t j = i + kAhead; j < std::min(i + kAhead + 4, count); ++j) probe.prefetch_row(nodes[j]);
    probe.four(&nodes[i], distances);
    for (std::size_t j = 0; j < 4; ++j) take(distances[j], nodes[i + j]);
  }
  for (; i < count; ++i) take(probe(nodes[i]), nodes[i]);
}

// Calls take(distance, node) for the fresh neighbors of a node, in the order of its links.
template <class G, class P, class Take>
void expand(const G& graph, const P& probe, Node node, typename G::Row row, unsigned degree, Scratch& scratch,
            Take&& take) {
  const std::size_t count = fresh_neighbors(graph, node, row, degree, scratch.visited, scratch.nodes.data());
  compare_nodes(probe, {scratch.nodes.data(), count}, take);
}

// Greedy descent (Algorithm 5, lines 4 to 6): from `start` to the nearest node on the levels above `bottom`. Calls
// take(distance, node) for every node it compares but `start`. What was seen on one level isn't compared again on the
// next: the nearest so far is nearer.
template <class G, class P, class Take>
Candidate descend(const G& graph, const P& probe, Candidate start, unsigned from_level, unsigned bottom,
                  Scratch& scratch, Take&& take) {
  Candidate nearest = start;
  for (unsigned level = from_level; level > bottom; --level) {
    for (Node node = kNoNode; node != nearest.node;) {
      node = nearest.node;
      const typename G::Row row = graph.upper_row(node, level);
      if (row == nullptr) throw_bad_link(node);
      expand(graph, probe, node, row, graph.m(), scratch, [&](float distance, Node neighbor) {
        nearest = std::min(nearest, Candidate{distance, neighbor});
        take(distance, neighbor);
      });
    }
  }
  return nearest;
}

// The next node's links are fetched early: those of the second nearest while the nearest is expanded, and those of a
// new nearest as soon as it is met.
//
// Algorithm 2 from the candidates that are in scratch.pool and marked in scratch.visited, until the nearest of them, as
// far as the pool's horizon, are expanded. Calls note(distance, node) for every node that it compares.
template <class G, class P, class Note>
void walk_layer(const G& graph, const P& probe, unsigned level, const Stop* stop, Scratch& scratch, const Note& note) {
  SortedPool& pool = scratch.pool;
  const unsigned degree = graph.degree(level);
  std::size_t hops = 0;
  for (Node node = kNoNode; pool.next(node);) {
    if (stop != nullptr && ++hops % kHopsPerCheck == 0) stop->check();
    const typename G::Row row = graph.row(node, level);
    if (row == nullptr) throw_bad_link(node);
    Node upcoming = kNoNode;
    if (pool.peek(upcoming)) prefetch_range(graph.row(upcoming, level), graph.row_bytes(level));
    expand(graph, probe, node, row, degree, scratch, [&](float distance, Node neighbor) {
      note(distance, neighbor);
      if (pool.insert({distance, neighbor}) && pool.is_next(neighbor))
        prefetch_range(graph.row(neighbor, level), graph.row_bytes(level));
    });
  }
}

// The same once: leaves the nearest nodes of the level that a walk finds, as many as the pool holds, nearest first.
template <class G, class P>
void search_layer(const G& graph, const P& probe, unsigned level, const Stop* stop, Scratch& scratch) {
  walk_layer(graph, probe, level, stop, scratch, [](float, Node) {});
  scratch.pool.finish();
}

// walk_layer on level 0 that compares only those neighbors that are admitted. These are few, so nodes are expanded
// several at a time, for the cache misses of what is compared to be in flight together.
template <class G, class P, class Admits>
void walk_admitted(const G& graph, const P& probe, const Stop& stop, Scratch& scratch, const Admits& admits) {
  SortedPool& pool = scratch.pool;
  const unsigned degree = graph.degree(0);
  Node* nodes = scratch.nodes.data();
  std::array<Node, kTogether> expanded;
  for (std::size_t hops = 0;;) {
    std::size_t taken = 0;
    for (; taken < kTogether && pool.next(expanded[taken]); ++taken)
      prefetch_range(graph.row(expanded[taken], 0), graph.row_bytes(0));
    if (taken == 0) return;
    hops += taken;
    if (hops % kHopsPerCheck < taken) stop.check();
    std::size_t fresh = 0;
    for (std::size_t i = 0; i < taken; ++i) {
      const Node node = expanded[i];
      fresh += fresh_neighbors(graph, node, graph.row(node, 0), degree, scratch.visited, nodes + fresh);
    }
    std::size_t count = 0;
    for (std::size_t i = 0; i < fresh; ++i) {
      nodes[count] = nodes[i];
      count += admits(nodes[i]) ? 1 : 0;
    }
    compare_nodes(probe, {nodes, count}, [&](float distance, Node neighbor) { pool.insert({distance, neighbor}); });
  }
}

}  // namespace akidb::hnsw
