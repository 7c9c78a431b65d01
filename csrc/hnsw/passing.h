// Which nodes a search may return.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "hnsw/order.h"

namespace akidb::hnsw {

class Passing {
 public:
  // Of `count` rows those that `allowed` (null: all) has and `removed` (null: none) has not, one byte each; `removed`
  // may change meanwhile.
  Passing(const Order& order, std::size_t count, const std::uint8_t* allowed, const std::uint8_t* removed,
          std::size_t removed_count);

  bool everything() const { return !is_filtered_ && removed_ == nullptr; }
  bool operator()(Node node) const { return row_passes(order_.row_of(node)); }
  bool row_passes(std::size_t row) const {
    return is_allowed(row) && (removed_ == nullptr || __atomic_load_n(removed_ + row, __ATOMIC_RELAXED) == 0);
  }
  // Whether or not it is removed, of which a writer may change its mind between two questions.
  bool is_allowed(std::size_t row) const {
    return row < count_ &&
           (!is_filtered_ || (allowed_[row / kBlock * kLanes + row % kLanes] >> row / kLanes % 8 & 1) != 0);
  }
  // About how many, 0 only where there are none: who is removed is counted off without a filter only, and that number
  // may run ahead of `count` while a writer is at work.
  std::size_t total() const { return total_; }
  // About in the order of the rows, or in that of the nodes: who scans reads on in memory where what is compared lies
  // so.
  std::vector<Node> by_row() const;
  std::vector<Node> by_node() const;

 private:
  // Bit j of byte i of a block is row kLanes * j + i of it: whole words of bytes are then packed by shifts alone.
  static constexpr std::size_t kLanes = 16;          // bytes of a block
  static constexpr std::size_t kBlock = 8 * kLanes;  // rows of a block

  static std::size_t pack(const std::uint8_t* rows, std::uint8_t* out);

  template <class Take>
  void for_each_row(const Take& take) const;

  const Order& order_;
  std::size_t count_;
  bool is_filtered_;
  std::vector<std::uint8_t>
      allowed_;  // a bit per row: an eighth of the bytes that were given, which stays in the innermost cache
  const std::uint8_t* removed_;
  std::size_t total_ = 0;
};

}  // namespace akidb::hnsw
