// The sets a walk keeps: which nodes it has seen, and which are the nearest so far. Kept per thread and reused, so
// that a search in its steady state allocates nothing.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "hnsw/params.h"

namespace akidb::hnsw {

struct Candidate {
  float distance;
  Node node;

  // Ties by node make every order of events, and so every answer, reproducible.
  bool operator<(const Candidate& other) const {
    return distance < other.distance || (distance == other.distance && node < other.node);
  }
};

// One byte per node: seen when it holds the number of the current walk. Clearing happens once in 255 walks; a byte and
// not two, because a million nodes then fit into a core's L2 cache.
class Visited {
 public:
  void begin(std::size_t nodes) {
    if (stamps_.size() < nodes) stamps_.resize(nodes, 0);
    if (++walk_ == 0) {
      std::fill(stamps_.begin(), stamps_.end(), std::uint8_t{0});
      walk_ = 1;
    }
  }
  // Marks the node; 1 if it had not been seen. An integer so that gathering neighbours needs no branch.
  std::size_t insert(Node node) {
    const std::size_t fresh = stamps_[node] != walk_;
    stamps_[node] = walk_;
    return fresh;
  }

 private:
  std::vector<std::uint8_t> stamps_;
  std::uint8_t walk_ = 0;
};

// The nearest `size` candidates in ascending order, each with a mark that says whether its neighbours were looked at.
// Sorted by insertion: moving a few hundred entries of 8 bytes costs less than the unpredictable branches of two
// heaps.
class SortedPool {
 public:
  void reset(std::size_t capacity) {
    capacity_ = capacity;
    horizon_ = capacity;
    size_ = 0;
    cursor_ = 0;
    if (entries_.size() < capacity + 1) entries_.resize(capacity + 1);
  }
  // Holds `candidates`, which come nearest first and are no more than that; marks as expanded those of which that is
  // true.
  template <class IsExpanded>
  void assign(std::span<const Candidate> candidates, std::size_t capacity, const IsExpanded& is_expanded) {
    reset(capacity);
    size_ = candidates.size();
    for (std::size_t i = 0; i < size_; ++i) {
      entries_[i] = candidates[i];
      if (is_expanded(candidates[i])) entries_[i].node |= kExpanded;
    }
  }
  // Only the `horizon` nearest are given out by next() from here on.
  void set_horizon(std::size_t horizon) { horizon_ = horizon; }
  std::size_t size() const { return size_; }
  bool full() const { return size_ == capacity_; }
  bool would_take(float distance) const { return size_ < capacity_ || distance < entries_[size_ - 1].distance; }
  const Candidate* begin() const { return entries_.data(); }
  const Candidate* end() const { return entries_.data() + size_; }

  // False if the pool is full of nearer ones.
  bool insert(Candidate candidate) {
    if (!would_take(candidate.distance)) return false;
    const std::size_t at = position(candidate);
    const std::size_t moved = size_ - at;
    std::memmove(&entries_[at + 1], &entries_[at], moved * sizeof(Candidate));
    entries_[at] = candidate;
    if (size_ < capacity_) ++size_;
    if (at < cursor_) cursor_ = at;
    return true;
  }

  // The nearest candidate not yet expanded, now marked as expanded; false when there is none.
  bool next(Node& node) {
    while (cursor_ < size_ && (entries_[cursor_].node & kExpanded) != 0) ++cursor_;
    if (cursor_ >= std::min(size_, horizon_)) return false;
    node = entries_[cursor_].node;
    entries_[cursor_++].node |= kExpanded;
    return true;
  }
  // The candidate that next() would give, if its place is already known.
  bool peek(Node& node) const {
    if (cursor_ == size_) return false;
    node = entries_[cursor_].node & ~kExpanded;
    return true;
  }

  bool is_next(Node node) const { return cursor_ < size_ && entries_[cursor_].node == node; }

  // The i-th nearest, while the walk may still go on.
  Candidate candidate(std::size_t i) const { return {entries_[i].distance, entries_[i].node & ~kExpanded}; }

  // Removes the marks; the walk is over.
  void finish() {
    for (std::size_t i = 0; i < size_; ++i) entries_[i].node &= ~kExpanded;
  }

 private:
  static constexpr Node kExpanded = 0x80000000U;  // the highest bit is free: kNodesMax is 2^31
  static_assert(kNodesMax <= kExpanded);

  std::size_t position(const Candidate& candidate) const {
    std::size_t low = 0;
    std::size_t length = size_;
    while (length > 0) {  // without branches each step waits for the last one's load: no faster
      const std::size_t half = length / 2;
      const Candidate& middle = entries_[low + half];
      const bool right = middle.distance < candidate.distance ||
                         (middle.distance == candidate.distance && (middle.node & ~kExpanded) < candidate.node);
      low = right ? low + half + 1 : low;
      length = right ? length - half - 1 : half;
    }
    return low;
  }

  std::vector<Candidate> entries_;
  std::size_t capacity_ = 0;
  std::size_t horizon_ = 0;
  std::size_t size_ = 0;
  std::size_t cursor_ = 0;
};

}  // namespace akidb::hnsw
