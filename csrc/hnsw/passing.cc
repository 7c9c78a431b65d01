#include "hnsw/passing.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "common/prefetch.h"

namespace akidb::hnsw {

namespace {

constexpr std::size_t kWordBits = 64;

template <class Take>
void for_each_bit(std::uint64_t word, const Take& take) {
  for (; word != 0; word &= word - 1) take(static_cast<std::size_t>(std::countr_zero(word)));
}

}  // namespace

Passing::Passing(const Order& order, std::size_t count, const std::uint8_t* allowed, const Removals& removals,
                 std::size_t removed_count)
    : order_(order), count_(count), is_filtered_(allowed != nullptr), removals_(removals) {
  if (!is_filtered_) {
    total_ = count - removed_count;
    return;
  }
  // Masks come from memory as often as from a cache, and the hardware doesn't fetch ahead across pages: half the time.
  constexpr std::size_t kAhead = 2048;
  allowed_.resize((count + kBlock - 1) / kBlock * kLanes);
  std::uint8_t* out = allowed_.data();
  std::size_t row = 0;
  for (; row + kBlock <= count; row += kBlock, out += kLanes) {
    prefetch_range(allowed + row + kAhead, kBlock);
    total_ += pack(allowed + row, out);
  }
  if (row == count) return;
  std::uint8_t last[kBlock] = {};
  std::copy_n(allowed + row, count - row, last);
  total_ += pack(last, out);
}

// Returns how many of a block's rows are not 0. Without a branch: which rows pass is anything but predictable.
std::size_t Passing::pack(const std::uint8_t* rows, std::uint8_t* out) {
  constexpr std::uint64_t kLow = 0x7F7F7F7F7F7F7F7FULL;
  constexpr std::size_t kWords = kLanes / sizeof(std::uint64_t);
  std::uint64_t bits[kWords] = {};
  std::uint64_t counts[kWords] = {};
  for (unsigned j = 0; j < 8; ++j) {
    std::uint64_t words[kWords];
    std::memcpy(words, rows + j * kLanes, kLanes);
    for (std::size_t i = 0; i < kWords; ++i) {
      const std::uint64_t ones = ((((words[i] & kLow) + kLow) | words[i]) & ~kLow) >> 7;
      bits[i] |= ones << j;
      counts[i] += ones;
    }
  }
  std::memcpy(out, bits, kLanes);
  constexpr std::uint64_t kSum = 0x0101010101010101ULL;  // brings the sum of eight bytes into the highest byte
  return (counts[0] + counts[1]) * kSum >> 56;
}

template <class Take>
void Passing::for_each_row(const Take& take) const {
  if (is_filtered_) {
    for (std::size_t at = 0; at < allowed_.size(); at += sizeof(std::uint64_t)) {
      std::uint64_t word = 0;
      std::memcpy(&word, &allowed_[at], sizeof word);
      for_each_bit(word, [&](std::size_t bit) {
        const std::size_t lane = at % kLanes + bit / 8;
        const std::size_t row = at / kLanes * kBlock + bit % 8 * kLanes + lane;
        if (!removals_.has(row)) take(static_cast<Node>(row));
      });
    }
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
  std::vector<std::uint64_t> nodes((std::max(order_.count, count_) + kWordBits - 1) / kWordBits);
  for_each_row([&](Node row) {
    const Node node = order_.node_of(row);
    nodes[node / kWordBits] |= std::uint64_t{1} << node % kWordBits;
  });
  std::vector<Node> out;
  out.reserve(total_);
  for (std::size_t i = 0; i < nodes.size(); ++i)
    for_each_bit(nodes[i], [&](std::size_t bit) { out.push_back(static_cast<Node>(i * kWordBits + bit)); });
  return out;
}

}  // namespace akidb::hnsw
