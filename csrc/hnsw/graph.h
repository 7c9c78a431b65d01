// The two forms of a graph. `Graph` grows: any number of threads search it while one builds. `GraphView`
// lies still, as bytes in memory it does not own (a mapped file), and is searched without atomics.
//
// Both keep a node's links as a row of fixed length, used from the front and filled up with kNoNode: 2m on level 0, m
// on each level above. A row of fixed length needs no offset table, and at m = 16 is exactly two cache lines.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "common/aligned_buffer.h"
#include "hnsw/params.h"

namespace akidb::hnsw {

struct EntryPoint {
  Node node = kNoNode;  // kNoNode: the graph is empty
  unsigned level = 0;   // its level, the highest of all
};

class GraphView {
 public:
  // Pointers into checked bytes: serialize.cc makes these.
  GraphView() = default;
  GraphView(unsigned m, std::size_t count, EntryPoint entry, const Node* base, const std::uint8_t* levels,
            const std::uint32_t* upper_starts, const Node* upper, std::size_t upper_rows)
      : m_(m),
        count_(count),
        entry_(entry),
        base_(base),
        levels_(levels),
        upper_starts_(upper_starts),
        upper_(upper),
        upper_rows_(upper_rows) {}

  unsigned m() const { return m_; }
  unsigned degree(unsigned level) const { return level == 0 ? 2 * m_ : m_; }
  std::size_t count() const { return count_; }
  std::size_t limit() const { return count_; }
  std::size_t upper_rows() const { return upper_rows_; }
  EntryPoint entry() const { return entry_; }
  unsigned level(Node node) const { return levels_[node]; }
  static Node load(const Node* link) { return *link; }

  const Node* base_row(Node node) const { return base_ + static_cast<std::size_t>(node) * 2 * m_; }
  // Null where the bytes lie about the node's level: opening checks sizes only, so that it reads no pages of a mapped
  // graph.
  const Node* upper_row(Node node, unsigned level) const {
    const std::size_t row = std::size_t{upper_starts_[node]} + level - 1;
    return level <= levels_[node] && row < upper_rows_ ? upper_ + row * m_ : nullptr;
  }
  const Node* row(Node node, unsigned level) const { return level == 0 ? base_row(node) : upper_row(node, level); }

 private:
  unsigned m_ = 0;
  std::size_t count_ = 0;
  EntryPoint entry_;
  const Node* base_ = nullptr;
  const std::uint8_t* levels_ = nullptr;
  const std::uint32_t* upper_starts_ =
      nullptr;  // number of the node's row for level 1; its rows for higher levels follow
  const Node* upper_ = nullptr;
  std::size_t upper_rows_ = 0;
};

// One thread writes to a row at a time, and reads take no lock: they load link by link, and meet an old row, a new row
// or a mixture, all of which name nodes that exist.
class Graph {
 public:
  // Room for `capacity` nodes. The first levels.size() nodes have these levels, the others those that params give.
  Graph(const Params& params, std::size_t capacity, std::span<const std::uint8_t> levels = {});

  const Params& params() const { return params_; }
  unsigned m() const { return params_.m; }
  unsigned degree(unsigned level) const { return level == 0 ? params_.m0() : params_.m; }
  std::size_t capacity() const { return levels_.size(); }
  std::size_t limit() const { return levels_.size(); }
  unsigned level(Node node) const { return levels_[node]; }
  std::size_t bytes() const {
    return levels_.size() + (upper_starts_.size() + base_.size() + upper_.size()) * sizeof(Node);
  }
  std::span<const std::uint8_t> levels(std::size_t count) const { return {levels_.data(), count}; }

  EntryPoint entry() const {
    const std::uint64_t packed = entry_.load(std::memory_order_acquire);
    return {static_cast<Node>(packed), static_cast<unsigned>(packed >> 32)};
  }
  void set_entry(EntryPoint entry) {
    entry_.store(std::uint64_t{entry.level} << 32 | entry.node, std::memory_order_release);
  }

  // Acquire and release pair up so that whoever meets a link also sees the linked node's vector and rows.
  static Node load(const Node* link) { return __atomic_load_n(link, __ATOMIC_ACQUIRE); }
  static void store(Node* link, Node node) { __atomic_store_n(link, node, __ATOMIC_RELEASE); }

  const Node* base_row(Node node) const { return base_.data() + static_cast<std::size_t>(node) * params_.m0(); }
  const Node* upper_row(Node node, unsigned level) const {
    return upper_.data() + (std::size_t{upper_starts_[node]} + level - 1) * params_.m;
  }
  const Node* row(Node node, unsigned level) const { return level == 0 ? base_row(node) : upper_row(node, level); }
  Node* row(Node node, unsigned level) { return const_cast<Node*>(static_cast<const Graph*>(this)->row(node, level)); }

  // Copies entry point and links of `other`, whose nodes up to `count` this graph must have at the same levels.
  void copy_links(const Graph& other, std::size_t count);

 private:
  Params params_;
  AlignedBuffer<std::uint8_t> levels_;
  AlignedBuffer<std::uint32_t> upper_starts_;
  AlignedBuffer<Node> base_;
  AlignedBuffer<Node> upper_;
  std::atomic<std::uint64_t> entry_{kNoNode};
};

// Links in use of a row: those before the first kNoNode.
template <class G>
std::size_t used_links(const Node* row, unsigned degree) {
  std::size_t used = 0;
  while (used < degree && G::load(row + used) != kNoNode) ++used;
  return used;
}

}  // namespace akidb::hnsw
