#include "hnsw/graph.h"

#include <algorithm>
#include <string>

namespace akidb::hnsw {

Graph::Graph(const Params& params, std::size_t capacity, std::span<const std::uint8_t> levels) : params_(params) {
  params_.check();
  if (capacity > kNodesMax)
    throw_invalid(std::to_string(capacity) + " vectors, a graph holds at most " + std::to_string(kNodesMax));
  levels_ = AlignedBuffer<std::uint8_t>(capacity);
  upper_starts_ = AlignedBuffer<std::uint32_t>(capacity);
  std::size_t upper_rows = 0;
  for (std::size_t node = 0; node < capacity; ++node) {
    levels_[node] = node < levels.size() ? levels[node] : static_cast<std::uint8_t>(params.level_of(node));
    upper_starts_[node] = static_cast<std::uint32_t>(upper_rows);
    upper_rows += levels_[node];
  }
  base_ = AlignedBuffer<Node>(capacity * params.m0());
  upper_ = AlignedBuffer<Node>(upper_rows * params.m);
  std::fill(base_.begin(), base_.end(), kNoNode);
  std::fill(upper_.begin(), upper_.end(), kNoNode);
}

void Graph::copy_links(const Graph& other, std::size_t count) {
  for (Node node = 0; node < count; ++node) {
    for (unsigned level = 0; level <= levels_[node]; ++level) {
      std::copy_n(other.row(node, level), degree(level), row(node, level));
    }
  }
  set_entry(other.entry());
}

}  // namespace akidb::hnsw
