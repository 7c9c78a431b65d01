// The two forms of a graph. `Graph` grows: any number of threads search it while one builds. `GraphView`
// lies still, as bytes in memory it does not own (a mapped file), and is searched without atomics.
//
// Both keep a node's links as a row of fixed length, used from the front and filled up with kNoNode: 2m on level 0, m
// on each level above. A row of fixed length needs no offset table. One that grows has links of 4 bytes, 16 to a cache
// line; one that lies still may have them packed.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "common/aligned_buffer.h"
#include "hnsw/params.h"

namespace akidb::hnsw {

struct EntryPoint {
  Node node = kNoNode;  // kNoNode: the graph is empty
  unsigned level = 0;   // its level, the highest of all
};

// How rows of links are packed: each a number of `bits` bits, 8 to 32, the lowest first, one after another without
// gaps, a row filled up to a whole byte. All bits set is no node. 32 bits are rows of Nodes.
struct LinkPacking {
  unsigned bits = 32;

  // The fewest bits that tell apart `count` nodes and no node.
  static constexpr LinkPacking of(std::size_t count) {
    unsigned bits = 8;
    while (bits < 32 && count >> bits != 0) ++bits;
    return {bits};
  }
  std::size_t row_bytes(unsigned degree) const { return (std::size_t{degree} * bits + 7) / 8; }
  // Reads the 8 bytes that end where the link does: before a row lie other bytes of the graph, behind the last none.
  Node load(const std::uint8_t* row, unsigned i) const {
    const std::size_t bit = std::size_t{i} * bits;
    const std::size_t end = (bit + bits + 7) / 8;
    std::uint64_t word = 0;
    std::memcpy(&word, row + end - sizeof word, sizeof word);
    const auto none = static_cast<Node>((std::uint64_t{1} << bits) - 1);
    const Node link = static_cast<Node>(word >> (bit + 64 - 8 * end)) & none;
    return link == none ? kNoNode : link;
  }
  // Into a row of zeros.
  void store(std::uint8_t* row, unsigned i, Node link) const {
    const std::size_t bit = std::size_t{i} * bits;
    std::uint64_t left = (link & ((std::uint64_t{1} << bits) - 1)) << bit % 8;
    for (std::uint8_t* byte = row + bit / 8; left != 0; ++byte, left >>= 8)
      *byte = static_cast<std::uint8_t>(*byte | left);
  }
};

class GraphView {
 public:
  using Row = const std::uint8_t*;

  // Pointers into checked bytes: serialize.cc makes these.
  GraphView() = default;
  GraphView(unsigned m, std::size_t count, EntryPoint entry, LinkPacking packing, const std::uint8_t* base,
            const std::uint8_t* levels, const std::uint32_t* upper_starts, const std::uint8_t* upper,
            std::size_t upper_rows)
      : m_(m),
        count_(count),
        entry_(entry),
        packing_(packing),
        base_bytes_(packing.row_bytes(2 * m)),
        upper_bytes_(packing.row_bytes(m)),
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
  std::size_t row_bytes(unsigned level) const { return level == 0 ? base_bytes_ : upper_bytes_; }
  Node link(Row row, unsigned i) const { return packing_.load(row, i); }

  Row base_row(Node node) const { return base_ + node * base_bytes_; }
  // Null where the bytes lie about the node's level: opening checks sizes only, so that it reads no pages of a mapped
  // graph.
  Row upper_row(Node node, unsigned level) const {
    const std::size_t row = std::size_t{upper_starts_[node]} + level - 1;
    return level <= levels_[node] && row < upper_rows_ ? upper_ + row * upper_bytes_ : nullptr;
  }
  Row row(Node node, unsigned level) const { return level == 0 ? base_row(node) : upper_row(node, level); }

 private:
  unsigned m_ = 0;
  std::size_t count_ = 0;
  EntryPoint entry_;
  LinkPacking packing_;
  std::size_t base_bytes_ = 0;  // of a row
  std::size_t upper_bytes_ = 0;
  const std::uint8_t* base_ = nullptr;
  const std::uint8_t* levels_ = nullptr;
  const std::uint32_t* upper_starts_ =
      nullptr;  // number of the node's row for level 1; its rows for higher levels follow
  const std::uint8_t* upper_ = nullptr;
  std::size_t upper_rows_ = 0;
};

// One thread writes to a row at a time, and reads take no lock: they load link by link, and meet an old row, a new row
// or a mixture, all of which name nodes that exist.
class Graph {
 public:
  using Row = const Node*;

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
  static Node link(Row row, unsigned i) { return load(row + i); }
  std::size_t row_bytes(unsigned level) const { return degree(level) * sizeof(Node); }

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
unsigned used_links(const G& graph, typename G::Row row, unsigned degree) {
  unsigned used = 0;
  while (used < degree && graph.link(row, used) != kNoNode) ++used;
  return used;
}

}  // namespace akidb::hnsw
