#include "hnsw/insert.h"

#include <algorithm>
#include <array>
#include <span>
#include <type_traits>
#include <vector>

#include "hnsw/code_probe.h"

namespace akidb::hnsw {

namespace {

// Neighbours of a node on one level.
struct Chosen {
  std::array<Candidate, kMMax> links;
  std::size_t count = 0;
};

// The other direction of a link: `owner` gets `node` as a neighbour, and where its row is full keeps the best by
// Algorithm 4.
void link_back(Graph& graph, const Vectors& vectors, Node owner, Candidate node, unsigned level) {
  const StripedLocks::Guard guard(graph.locks(), owner);
  Node* row = graph.row(owner, level);
  const unsigned degree = graph.degree(level);
  const std::size_t used = used_links<Graph>(row, degree);
  if (used < degree) {
    Graph::store(row + used, node.node);
    return;
  }
  std::array<Node, kDegreeMax> nodes;
  std::array<float, kDegreeMax> distances;
  std::array<Candidate, kDegreeMax + 1> candidates;
  std::array<Candidate, kDegreeMax> kept;
  const Probe probe(vectors, owner);
  for (std::size_t i = 0; i < used; ++i) {
    nodes[i] = Graph::load(row + i);
    probe.prefetch_row(nodes[i]);
  }
  probe(nodes.data(), used, distances.data());
  for (std::size_t i = 0; i < used; ++i) candidates[i] = {distances[i], nodes[i]};
  candidates[used] = node;
  std::sort(candidates.begin(), candidates.begin() + static_cast<std::ptrdiff_t>(used) + 1);
  const std::size_t count = select_neighbors(vectors, {candidates.data(), used + 1}, degree, kept.data());
  for (std::size_t i = 0; i < degree; ++i) Graph::store(row + i, i < count ? kept[i].node : kNoNode);
}

}  // namespace

bool nearer_to_any(const Probe& probe, std::span<const Node> chosen, float distance) {
  float distances[4];
  std::size_t i = 0;
  for (; i + 4 <= chosen.size(); i += 4) {
    probe.four(chosen.data() + i, distances);
    for (const float other : distances) {
      if (other < distance) return true;
    }
  }
  for (; i < chosen.size(); ++i) {
    if (probe(chosen[i]) < distance) return true;
  }
  return false;
}

std::size_t select_neighbors(const Vectors& vectors, std::span<const Candidate> candidates, std::size_t limit,
                             Candidate* chosen) {
  std::array<Node, kDegreeMax> nodes;
  std::size_t count = 0;
  for (const Candidate& candidate : candidates) {
    if (count == limit) break;
    const Probe probe(vectors, candidate.node);
    if (nearer_to_any(probe, {nodes.data(), count}, candidate.distance)) continue;
    nodes[count] = candidate.node;
    chosen[count++] = candidate;
  }
  return count;
}

namespace {

// The nearest of the pool by their vectors, nearest first: what a walk over codes found is put into its true order.
std::span<const Candidate> exactly(const Probe& exact, Scratch& scratch) {
  std::vector<Candidate>& found = scratch.candidates;
  found.assign(scratch.pool.begin(), scratch.pool.end());
  constexpr std::size_t kAhead = 4;
  for (std::size_t i = 0; i < found.size(); ++i) {
    if (i + kAhead < found.size()) exact.prefetch_row(found[i + kAhead].node);
    found[i].distance = exact(found[i].node);
  }
  std::sort(found.begin(), found.end());
  return found;
}

// Neighbours for a node on every level up to `level`, found by a walk that compares by `probe`.
template <class P>
void find_neighbors(const Graph& graph, const Vectors& vectors, Node node, const P& probe, EntryPoint entry,
                    unsigned level, Scratch& scratch, std::vector<Chosen>& chosen) {
  const Probe exact(vectors, node);
  scratch.visited.begin(graph.limit());
  scratch.visited.insert(entry.node);
  Candidate nearest{probe(entry.node), entry.node};
  nearest = descend(graph, probe, nearest, entry.level, level, scratch, [](float, Node) {});
  for (unsigned l = static_cast<unsigned>(chosen.size()); l-- > 0;) {
    scratch.visited.begin(graph.limit());
    scratch.visited.insert(nearest.node);
    scratch.pool.reset(graph.params().ef_construction);
    scratch.pool.insert(nearest);
    search_layer(graph, probe, l, nullptr, scratch);
    nearest = *scratch.pool.begin();
    std::span<const Candidate> found(scratch.pool.begin(), scratch.pool.end());
    if constexpr (!std::is_same_v<P, Probe>) found = exactly(exact, scratch);
    chosen[l].count = select_neighbors(vectors, found, graph.m(), chosen[l].links.data());
  }
}

}  // namespace

void insert(Graph& graph, const Vectors& vectors, const quantization::Codes* codes, Node node, Scratch& scratch) {
  const unsigned level = graph.level(node);
  // A node above all others is inserted alone: of two at once, each would miss the other on the new levels.
  std::unique_lock top(graph.entry_mutex(), std::defer_lock);
  EntryPoint entry = graph.entry();
  if (entry.node == kNoNode || level > entry.level) {
    top.lock();
    entry = graph.entry();
    if (entry.node == kNoNode) {
      graph.set_entry({node, level});
      return;
    }
    if (level <= entry.level) top.unlock();
  }

  std::vector<Chosen> chosen(std::min(level, entry.level) + 1);
  if (codes == nullptr) {
    find_neighbors(graph, vectors, node, Probe(vectors, node), entry, level, scratch, chosen);
  } else {
    scratch.query.prepare(*codes, vectors.row(node), vectors.inverse_norm(node));
    find_neighbors(graph, vectors, node, CodeProbe(*codes, scratch.query), entry, level, scratch, chosen);
  }

  // Own links on every level come before the first link back: whoever meets the node can go on from it, on any level.
  // Hence no lock here.
  for (unsigned l = 0; l < chosen.size(); ++l) {
    Node* row = graph.row(node, l);
    for (std::size_t i = 0; i < chosen[l].count; ++i) Graph::store(row + i, chosen[l].links[i].node);
  }
  for (unsigned l = 0; l < chosen.size(); ++l) {
    for (std::size_t i = 0; i < chosen[l].count; ++i) {
      const Candidate& neighbor = chosen[l].links[i];
      link_back(graph, vectors, neighbor.node, {neighbor.distance, node}, l);
    }
  }
  if (top.owns_lock()) graph.set_entry({node, level});
}

}  // namespace akidb::hnsw
