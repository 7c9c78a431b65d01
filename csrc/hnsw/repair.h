// The links of nodes that stay where some of their neighbours go.
#pragma once

#include <algorithm>
#include <span>
#include <vector>

#include "hnsw/insert.h"

namespace akidb::hnsw {

// Copies rows of links of one graph, of either form, to another, in which nodes have other numbers or are missing.
//
// Where a node loses neighbours it chooses others among the neighbours of the lost ones, after Algorithm 4 of
// "FreshDiskANN", arXiv 2105.09613, by the selection rule of HNSW. Any number of threads may write different nodes.
template <class G>
class Repair {
 public:
  // `new_number` has for each node of `from` its number in `to` and among `vectors`, kNoNode where it goes.
  Repair(const G& from, std::span<const Node> new_number, Graph& to, const Vectors& vectors)
      : from_(from), new_number_(new_number), to_(to), vectors_(vectors) {}

  // Writes the links of a node that stays, given by its old number. Throws Error(kCorruption) where a link leads
  // nowhere.
  void operator()(Node old) const {
    for (unsigned level = 0; level <= from_.level(old); ++level) {
      const std::vector<Node> row = links(old, level);
      std::vector<Node> kept;
      for (const Node neighbor : row) {
        if (stays(neighbor)) kept.push_back(new_number_[neighbor]);
      }
      if (kept.size() < row.size()) kept = choose(old, kept, row, level);
      std::copy(kept.begin(), kept.end(), to_.row(new_number_[old], level));
    }
  }

 private:
  bool stays(Node old) const { return new_number_[old] != kNoNode; }

  std::vector<Node> links(Node old, unsigned level) const {
    const typename G::Row row = from_.row(old, level);
    if (row == nullptr) throw_bad_link(old);
    std::vector<Node> used(used_links(from_, row, from_.degree(level)));
    for (unsigned i = 0; i < used.size(); ++i) {
      used[i] = from_.link(row, i);
      if (used[i] >= new_number_.size()) throw_bad_link(old);
    }
    return used;
  }

  // The links that stay are kept without a new trial: many are there only as somebody's link back, and a trial would
  // thin the row out. For the same reason what the rule passes over makes up for what is lost: after ten rounds of
  // updating half of 4,000 points of 64 dimensions recall@10 was .986 without, .989 with it, of .997 for a fresh build.
  std::vector<Node> choose(Node old, std::vector<Node> kept, std::span<const Node> row, unsigned level) const {
    std::vector<Node> passed_over;
    for (const Candidate& candidate : neighbors_of_lost(old, kept, row, level)) {
      if (kept.size() == from_.degree(level)) break;
      const Probe probe(vectors_, candidate.node);
      (nearer_to_any(probe, kept, candidate.distance) ? passed_over : kept).push_back(candidate.node);
    }
    const std::size_t missing = row.size() - std::min(row.size(), kept.size());
    kept.insert(kept.end(), passed_over.begin(),
                passed_over.begin() + static_cast<std::ptrdiff_t>(std::min(missing, passed_over.size())));
    return kept;
  }

  // Nearest first.
  std::vector<Candidate> neighbors_of_lost(Node old, const std::vector<Node>& kept, std::span<const Node> row,
                                           unsigned level) const {
    std::vector<Node> nodes;
    for (const Node lost : row) {
      if (stays(lost)) continue;
      for (const Node neighbor : links(lost, level)) {
        if (!stays(neighbor) || neighbor == old) continue;
        const Node node = new_number_[neighbor];
        if (std::find(kept.begin(), kept.end(), node) == kept.end()) nodes.push_back(node);
      }
    }
    std::sort(nodes.begin(), nodes.end());
    nodes.erase(std::unique(nodes.begin(), nodes.end()), nodes.end());
    std::vector<float> distances(nodes.size());
    Probe(vectors_, new_number_[old])(nodes.data(), nodes.size(), distances.data());
    std::vector<Candidate> candidates(nodes.size());
    for (std::size_t i = 0; i < nodes.size(); ++i) candidates[i] = {distances[i], nodes[i]};
    std::sort(candidates.begin(), candidates.end());
    return candidates;
  }

  const G& from_;
  std::span<const Node> new_number_;
  Graph& to_;
  const Vectors& vectors_;
};

// The node of the highest level among [first, first + count), to enter the graph by.
EntryPoint highest(const Graph& graph, Node first, std::size_t count);

}  // namespace akidb::hnsw
