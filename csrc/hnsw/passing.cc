#include "hnsw/passing.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace akidb::hnsw {

namespace {

// Bit i tells whether byte i of 64 is not 0. Eight at a time without a branch: which rows pass is anything but
// predictable.
std::uint64_t bits_of(const std::uint8_t* bytes) {
  constexpr std::uint64_t kLow = 0x7F7F7F7F7F7F7F7FULL;
  constexpr std::uint64_t kGather =
      0x0102040810204080ULL;  // brings the lowest bits of eight bytes into the highest byte
  std::uint64_t bits = 0;
  for (unsigned i = 0; i < 64; i += 8) {
    std::uint64_t word = 0;
    std::memcpy(&word, bytes + i, sizeof word);
    const std::uint64_t ones = ((((word & kLow) + kLow) | word) & ~kLow) >> 7;
    bits |= (ones * kGather >> 56) << i;
  }
  return bits;
}

template <class Take>
void for_each_bit(const std::vector<std::uint64_t>& bits, const Take& take) {
  for (std::size_t i = 0; i < bits.size(); ++i) {
    for (std::uint64_t left = bits[i]; left != 0; left &= left - 1)
      take(static_cast<Node>(i * 64 + static_cast<std::size_t>(std::countr_zero(left))));
  }
}

}  // namespace

Passing::Passing(const Order& order, std::size_t count, const std::uint8_t* allowed, const std::uint8_t* removed,
                 std::size_t removed_count)
    : order_(order), count_(count), is_filtered_(allowed != nullptr), removed_(removed) {
  if (!is_filtered_) {
    total_ = count > removed_count ? count - removed_count : std::min<std::size_t>(count, 1);
    return;
  }
  allowed_.reserve((count + kBits - 1) / kBits);
  for (std::size_t row = 0; row < count; row += kBits) {
    std::uint8_t last[kBits] = {};
    const bool is_whole = row + kBits <= count;
    if (!is_whole) std::copy_n(allowed + row, count - row, last);
    allowed_.push_back(bits_of(is_whole ? allowed + row : last));
    total_ += static_cast<std::size_t>(std::popcount(allowed_.back()));
  }
}

template <class Take>
void Passing::for_each_row(const Take& take) const {
  if (is_filtered_) {
    for_each_bit(allowed_, [&](Node row) {
      if (removed_ == nullptr || row_passes(row)) take(row);
    });
    return;
  }
  for (std::size_t row = 0; row < count_; ++row) {
    if (row_passes(row)) take(static_cast<Node>(row));
  }
}

std::vector<Node> Passing::by_row() const {
  std::vector<Node> out;
  out.reserve(total_);
  for_each_row([&](Node row) { out.push_back(order_.node_of(row)); });
  return out;
}

std::vector<Node> Passing::by_node() const {
  if (order_.rows == nullptr) return by_row();
  Bits nodes((order_.count + kBits - 1) / kBits);
  for_each_row([&](Node row) {
    const Node node = order_.node_of(row);
    nodes[node / kBits] |= std::uint64_t{1} << node % kBits;
  });
  std::vector<Node> out;
  out.reserve(total_);
  for_each_bit(nodes, [&](Node node) { out.push_back(node); });
  return out;
}

}  // namespace akidb::hnsw
