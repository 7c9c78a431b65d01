// From the caller's ids to nodes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "common/prefetch.h"
#include "hnsw/params.h"

namespace akidb::hnsw {

// A hash table of nodes only: the ids themselves are where the nodes keep them. 6 to 12 bytes per id;
// std::unordered_map takes about 50. Linear probing with backward shift, so erasing leaves no marks behind. Callers
// lock.
class IdMap {
 public:
  // The product brings a bit of an id to higher ones alone: ids that are multiples of a large power of two, as those of
  // a tenant or a time and a number that is 0 are, have their high bits among the low ones as well.
  static std::uint64_t hash(std::int64_t id) {
    auto bits = static_cast<std::uint64_t>(id);
    bits ^= bits >> 32;
    return (bits * 0x9E3779B97F4A7C15ULL) >> 20;
  }

  std::size_t size() const { return size_; }
  std::size_t bytes() const { return table_.size() * sizeof(Node); }

  Node find(std::int64_t id, const std::int64_t* ids) const {
    if (size_ == 0) return kNoNode;
    for (std::size_t i = home(id);; i = next(i)) {
      if (table_[i] == kNoNode || ids[table_[i]] == id) return table_[i];
    }
  }

  // take(i, node of the i-th), which is kNoNode for an id that is not there. Two loads ahead of each, for ids asked for
  // in any order miss the caches twice.
  template <class Take>
  void find_each(std::span<const std::int64_t> wanted, const std::int64_t* ids, const Take& take) const {
    constexpr std::size_t kAhead = 8;
    const std::size_t count = size_ == 0 ? 0 : wanted.size();
    for (std::size_t i = 0; i < wanted.size(); ++i) {
      if (i + 2 * kAhead < count) prefetch(&table_[home(wanted[i + 2 * kAhead])]);
      if (i + kAhead < count) {
        const Node likely = table_[home(wanted[i + kAhead])];
        if (likely != kNoNode) prefetch(&ids[likely]);
      }
      take(i, find(wanted[i], ids));
    }
  }

  // Room for `size` ids in all.
  void reserve(std::size_t size, const std::int64_t* ids) {
    std::size_t wanted = 16;
    while (wanted * 2 < size * 3) wanted *= 2;  // at most two thirds full
    if (wanted <= table_.size()) return;
    std::vector<Node> old(wanted, kNoNode);
    old.swap(table_);
    for (const Node node : old) {
      if (node != kNoNode) place(node, ids);
    }
  }

  // The id ids[node] must not be in the map, and room for it must have been reserved.
  void insert(Node node, const std::int64_t* ids) {
    place(node, ids);
    ++size_;
  }

  void erase(std::int64_t id, const std::int64_t* ids) {
    std::size_t hole = home(id);
    while (table_[hole] == kNoNode || ids[table_[hole]] != id) {
      if (table_[hole] == kNoNode) return;
      hole = next(hole);
    }
    for (std::size_t i = next(hole); table_[i] != kNoNode; i = next(i)) {
      // An entry may move into the hole if the hole lies on its way from home.
      const std::size_t way = (i - home(ids[table_[i]])) & (table_.size() - 1);
      if (way >= ((i - hole) & (table_.size() - 1))) {
        table_[hole] = table_[i];
        hole = i;
      }
    }
    table_[hole] = kNoNode;
    --size_;
  }

 private:
  std::size_t home(std::int64_t id) const { return static_cast<std::size_t>(hash(id)) & (table_.size() - 1); }
  std::size_t next(std::size_t i) const { return (i + 1) & (table_.size() - 1); }
  void place(Node node, const std::int64_t* ids) {
    std::size_t i = home(ids[node]);
    while (table_[i] != kNoNode) i = next(i);
    table_[i] = node;
  }

  std::vector<Node> table_;  // a power of two long
  std::size_t size_ = 0;
};

}  // namespace akidb::hnsw
