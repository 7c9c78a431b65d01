#include "hnsw/insert.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <span>
#include <tuple>
#include <type_traits>
#include <vector>

#include "common/thread_pool.h"
#include "hnsw/code_probe.h"
#include "hnsw/nearest.h"

namespace akidb::hnsw {

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

void sort_exactly(const Probe& exact, std::span<Candidate> candidates) {
  const std::size_t count = candidates.size();
  std::array<Node, 256> nodes;
  for (std::size_t i = 0; i < count;) {
    const std::size_t some = std::min(nodes.size(), count - i);
    for (std::size_t j = 0; j < some; ++j) nodes[j] = candidates[i + j].node;
    compare_nodes(exact, {nodes.data(), some}, [&](float distance, Node) { candidates[i++].distance = distance; });
  }
  const std::span<const Candidate> sorted = sorted_nearest(candidates, count, Scratch::of_this_thread().sorted);
  std::copy(sorted.begin(), sorted.end(), candidates.begin());
}

void take_links(Graph& graph, const Vectors& vectors, const Removals& removals, Node owner, unsigned level,
                std::span<const Node> nodes) {
  Node* row = graph.row(owner, level);
  const unsigned degree = graph.degree(level);
  unsigned used = used_links(graph, row, degree);
  std::vector<Candidate>& candidates = Scratch::of_this_thread().candidates;
  candidates.clear();
  for (const Node node : nodes) {
    if (std::find(row, row + used, node) != row + used) continue;
    if (used < degree) {
      Graph::store(row + used++, node);
    } else {
      candidates.push_back({0, node});
    }
  }
  if (candidates.empty()) return;
  for (std::size_t i = 0; i < used; ++i) candidates.push_back({0, row[i]});
  sort_exactly(Probe(vectors, owner), candidates);
  if (removals.removed_in != nullptr) {
    std::sort(candidates.begin(), candidates.end(), [&](const Candidate& a, const Candidate& b) {
      if (a.distance != b.distance || removals.has(a.node) == removals.has(b.node)) return a < b;
      return removals.has(b.node);
    });
  }
  std::array<Candidate, kDegreeMax> kept;
  const std::size_t count = select_neighbors(vectors, candidates, degree, kept.data());
  for (std::size_t i = 0; i < degree; ++i) Graph::store(row + i, i < count ? kept[i].node : kNoNode);
}

bool Batch::BackLink::operator<(const BackLink& other) const {
  return std::tie(level, owner, node) < std::tie(other.level, other.owner, other.node);
}

// Distances to the nodes of the batch go to scratch.mates, so that nodes which come together can be neighbours: a
// cluster may arrive all at once.
template <class P>
void Batch::compare_with_batch(std::size_t i, const P& probe, Scratch& scratch) const {
  std::vector<Candidate>& mates = scratch.mates;
  float distances[4];
  std::size_t next = 0;
  for (; nodes_.size() - next >= 4; next += 4) {
    probe.four(&nodes_[next], distances);
    for (std::size_t j = 0; j < 4; ++j) mates.push_back({distances[j], nodes_[next + j]});
  }
  for (; next < nodes_.size(); ++next) mates.push_back({probe(nodes_[next]), nodes_[next]});
  mates.erase(mates.begin() + static_cast<std::ptrdiff_t>(i));
}

// The nearest of the graph on a level, to scratch.pool; none where the graph does not reach so high.
template <class P>
Candidate Batch::walk(const P& probe, unsigned level, const Hint& hint, Candidate nearest, Scratch& scratch) const {
  scratch.pool.reset(hint.ef > 0 ? hint.ef : graph_.params().ef_construction);
  const EntryPoint entry = graph_.entry();
  if (entry.node == kNoNode || level > entry.level) return nearest;
  scratch.visited.begin(graph_.limit());
  scratch.visited.insert(nearest.node);
  scratch.pool.insert(nearest);
  for (const Node node : hint.near) probe.prefetch_row(node);
  for (const Node node : hint.near) {
    if (scratch.visited.insert(node) != 0) scratch.pool.insert({probe(node), node});
  }
  search_layer(graph_, probe, level, nullptr, scratch);
  return *scratch.pool.begin();
}

template <class P>
void Batch::choose_neighbors(std::size_t i, const std::optional<Hint>& hint, const P& probe, Scratch& scratch) {
  const Node node = nodes_[i];
  const Probe exact(vectors_, node);
  const EntryPoint entry = graph_.entry();
  Candidate nearest{0.0F, entry.node};
  if (entry.node != kNoNode) {
    scratch.visited.begin(graph_.limit());
    scratch.visited.insert(entry.node);
    nearest.distance = probe(entry.node);
    nearest = descend(graph_, probe, nearest, entry.level, graph_.level(node), scratch, [](float, Node) {});
  }
  scratch.mates.clear();
  if (!hint) compare_with_batch(i, probe, scratch);
  for (std::size_t j = 0; hint && j < hint->mates.size(); ++j)
    scratch.mates.push_back({probe(hint->mates[j]), hint->mates[j]});
  std::vector<BackLink>& made = made_[i];
  made.clear();
  std::array<Candidate, kMMax> chosen;
  for (unsigned level = graph_.level(node) + 1; level-- > 0;) {
    nearest = walk(probe, level, hint.value_or(Hint{}), nearest, scratch);
    for (const Candidate& mate : scratch.mates) {
      if (graph_.level(mate.node) >= level) scratch.pool.insert(mate);
    }
    std::span<const Candidate> found(scratch.pool.begin(), scratch.pool.end());
    if constexpr (!std::is_same_v<P, Probe>) {  // what a walk over codes found is put into its true order
      scratch.candidates.assign(found.begin(), found.end());
      sort_exactly(exact, scratch.candidates);
      found = scratch.candidates;
    }
    const std::size_t count = select_neighbors(vectors_, found, graph_.m(), chosen.data());
    Node* row = graph_.row(node, level);
    for (std::size_t j = 0; j < count; ++j) {
      Graph::store(row + j, chosen[j].node);
      made.push_back({chosen[j].node, level, node});
    }
  }
}

void Batch::link_back() {
  links_.clear();
  for (std::size_t i = 0; i < nodes_.size(); ++i) links_.insert(links_.end(), made_[i].begin(), made_[i].end());
  std::sort(links_.begin(), links_.end());
  groups_.clear();
  for (std::size_t i = 0; i < links_.size(); ++i) {
    if (i == 0 || links_[i].owner != links_[i - 1].owner || links_[i].level != links_[i - 1].level)
      groups_.push_back(i);
  }
  groups_.push_back(links_.size());
  ThreadPool::shared().parallel_for(groups_.size() - 1, threads_, [this](std::size_t group, unsigned) {
    thread_local std::vector<Node> nodes;
    nodes.clear();
    for (std::size_t i = groups_[group]; i < groups_[group + 1]; ++i) nodes.push_back(links_[i].node);
    const BackLink& first = links_[groups_[group]];
    take_links(graph_, vectors_, removals_, first.owner, first.level, nodes);
  });
}

void Batch::insert(std::span<const Node> nodes, const HintOf& hint_of, const Pause& pause) {
  nodes_ = nodes;
  if (made_.size() < nodes.size()) made_.resize(nodes.size());
  std::atomic<std::size_t> done{0};
  // Own links on every level come before the first link back: whoever meets a node can go on from it, on any level.
  ThreadPool::shared().parallel_for(nodes.size(), threads_, [&](std::size_t i, unsigned worker) {
    const Node node = nodes_[i];
    const std::optional<Hint> hint = hint_of ? hint_of(i) : std::nullopt;
    Scratch& scratch = Scratch::of_this_thread();
    if (codes_ == nullptr) {
      choose_neighbors(i, hint, Probe(vectors_, node), scratch);
    } else {
      scratch.query.prepare(*codes_, vectors_.type, vectors_.row(node), vectors_.inverse_norm(node));
      choose_neighbors(i, hint, CodeProbe(*codes_, scratch.query), scratch);
    }
    const std::size_t so_far = done.fetch_add(1, std::memory_order_relaxed) + 1;
    if (worker == 0) pause(so_far);  // the caller's thread
  });
  link_back();
  EntryPoint entry = graph_.entry();
  for (const Node node : nodes) {
    if (entry.node == kNoNode || graph_.level(node) > entry.level) entry = {node, graph_.level(node)};
  }
  graph_.set_entry(entry);
}

}  // namespace akidb::hnsw
