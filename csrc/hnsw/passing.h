// Which nodes a search may return.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "hnsw/mask_bits.h"
#include "hnsw/order.h"

namespace akidb::hnsw {

// Which rows are removed, to who looked at a certain time: those that go later are there still, so that of an id whose
// row is replaced one of the two is found, never both and never none.
struct Removals {
  using Time = std::uint32_t;  // the number of the removal, the first is 1

  bool has(std::size_t row) const {
    if (removed_in == nullptr) return false;
    const Time time = __atomic_load_n(removed_in + row, __ATOMIC_RELAXED);
    return time != 0 && time <= seen;
  }

  const Time* removed_in = nullptr;  // by row, 0: it is there; later ones may be written meanwhile; null: none is
  Time seen = 0;                     // the last removal before the look
};

class Passing {
 public:
  // Of `count` rows those that `allowed` (null: all; one byte each) has and `removals` have not.
  Passing(const Order& order, std::size_t count, const std::uint8_t* allowed, const Removals& removals,
          std::size_t removed_count);

  bool everything() const { return !is_filtered_ && removals_.removed_in == nullptr; }
  bool operator()(Node node) const { return row_passes(order_.row_of(node)); }
  bool row_passes(std::size_t row) const {
    return row < count_ && !removals_.has(row) &&
           (!is_filtered_ || (allowed_[row / kWordBits] >> row % kWordBits & 1) != 0);
  }
  // How many; about so under a filter, which may allow what is removed, but 0 only where there are none.
  std::size_t total() const { return total_; }
  // In the order of the rows, or in that of the nodes, which takes longer: who scans reads on in memory where
  // what is compared lies so.
  std::vector<Node> by_row() const;
  std::vector<Node> by_node() const;

 private:
  const Order& order_;
  std::size_t count_;
  bool is_filtered_;
  // A bit per row: an eighth of the bytes that were given, which stays in the innermost cache.
  std::vector<std::uint64_t> allowed_;
  Removals removals_;
  std::size_t total_ = 0;
};

}  // namespace akidb::hnsw
