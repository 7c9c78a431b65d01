// The nearest of many nodes by comparing each: what a walk is where few nodes pass, or where those that pass lie far.
#pragma once

#include <algorithm>
#include <cstddef>
#include <limits>
#include <span>
#include <vector>

#include "common/deadline.h"
#include "hnsw/candidates.h"
#include "hnsw/nearest.h"
#include "hnsw/params.h"

namespace akidb::hnsw {

// The nearest `kept` of a stream of candidates, in a vector that is used again and again.
class Nearest {
 public:
  Nearest(std::size_t kept, std::vector<Candidate>& held) : kept_(std::max<std::size_t>(kept, 1)), held_(held) {
    held_.clear();
  }

  // The i-th of `count` is node_of(i); accept(node) is asked only of those near enough. Most lie too far, and that is
  // seen of sixteen at a time without a branch each.
  template <class NodeOf, class Accept>
  void offer(const float* distances, std::size_t count, const NodeOf& node_of, const Accept& accept) {
    constexpr std::size_t kStep = 16;
    for (std::size_t first = 0; first < count; first += kStep) {
      const std::size_t end = std::min(first + kStep, count);
      unsigned near = 0;
      for (std::size_t i = first; i < end; ++i) near |= static_cast<unsigned>(distances[i] <= limit_);
      for (std::size_t i = first; near != 0 && i < end; ++i) {
        if (distances[i] <= limit_ && accept(node_of(i))) take({distances[i], node_of(i)});
      }
    }
  }

  // Nearest first, in memory that is used again.
  std::span<const Candidate> sorted(std::vector<Candidate>& memory) { return sorted_nearest(held_, kept_, memory); }

 private:
  void take(const Candidate& candidate) {
    held_.push_back(candidate);
    if (held_.size() < 2 * kept_ + 16) return;
    cut();
    limit_ = held_[kept_ - 1].distance;
  }

  void cut() {
    if (held_.size() <= kept_) return;
    gather_nearest(held_, kept_);
    held_.resize(kept_);
  }

  std::size_t kept_;
  std::vector<Candidate>& held_;
  float limit_ = std::numeric_limits<float>::infinity();
};

template <class P, class Accept>
void scan_nodes(const P& probe, std::span<const Node> nodes, const Stop& stop, Nearest& nearest, const Accept& accept) {
  constexpr std::size_t kAhead = 16;
  float distances[kScanBlock];
  for (std::size_t first = 0; first < nodes.size(); first += kScanBlock) {
    stop.check();
    const std::size_t end = std::min(first + kScanBlock, nodes.size());
    std::size_t i = first;
    for (; i + 4 <= end; i += 4) {
      for (std::size_t j = i + kAhead; j < std::min(i + kAhead + 4, nodes.size()); ++j) probe.prefetch_row(nodes[j]);
      probe.four(&nodes[i], distances + (i - first));
    }
    for (; i < end; ++i) distances[i - first] = probe(nodes[i]);
    nearest.offer(distances, end - first, [&](std::size_t at) { return nodes[first + at]; }, accept);
  }
}

// The nodes below `count`, as they lie.
template <class P, class Accept>
void scan_all(const P& probe, std::size_t count, const Stop& stop, Nearest& nearest, const Accept& accept) {
  float distances[kScanBlock];
  for (std::size_t first = 0; first < count; first += kScanBlock) {
    stop.check();
    const std::size_t size = std::min(kScanBlock, count - first);
    probe.run(static_cast<Node>(first), size, distances);
    nearest.offer(distances, size, [&](std::size_t at) { return static_cast<Node>(first + at); }, accept);
  }
}

}  // namespace akidb::hnsw
