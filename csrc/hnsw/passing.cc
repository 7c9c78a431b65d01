#include "hnsw/passing.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <numeric>

#include "common/prefetch.h"

namespace akidb::hnsw {

namespace {

constexpr std::size_t kWordBits = 64;

// Writes number(bit) of every bit of the word and something after the end, which it returns. Four bits at a time, set
// or not: few are, and which is anything but predictable, so that a branch for each costs more than writing what is
// written over again.
template <class Number>
Node* write_bits(std::uint64_t word, const Number& number, Node* out) {
  do {
    for (int i = 0; i < 4; ++i, word &= word - 1) {
      *out = static_cast<Node>(number(static_cast<std::size_t>(std::countr_zero(word))));
      out += word != 0 ? 1 : 0;
    }
  } while (word != 0);
  return out;
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

std::vector<Node> Passing::by_row() const {
  std::vector<Node> out((is_filtered_ ? total_ : count_) + 1);
  Node* end = out.data();
  if (is_filtered_) {
    for (std::size_t at = 0; at < allowed_.size(); at += sizeof(std::uint64_t)) {
      std::uint64_t word = 0;
      std::memcpy(&word, &allowed_[at], sizeof word);
      const std::size_t first = at / kLanes * kBlock + at % kLanes;
      end = write_bits(word, [&](std::size_t bit) { return first + bit % 8 * kLanes + bit / 8; }, end);
    }
  } else {
    end += count_;
    std::iota(out.data(), end, Node{0});
  }
  Node* kept = out.data();
  for (const Node* row = out.data(); row < end; ++row) {
    const bool is_there = !removals_.has(*row);
    *kept = order_.node_of(*row);
    kept += is_there ? 1 : 0;
  }
  out.resize(static_cast<std::size_t>(kept - out.data()));
  return out;
}

std::vector<Node> Passing::by_node() const {
  std::vector<Node> out = by_row();
  std::vector<std::uint64_t> nodes((std::max(order_.count, count_) + kWordBits - 1) / kWordBits);
  for (const Node node : out) nodes[node / kWordBits] |= std::uint64_t{1} << node % kWordBits;
  out.resize(out.size() + 1);
  Node* end = out.data();
  for (std::size_t i = 0; i < nodes.size(); ++i)
    end = write_bits(nodes[i], [&](std::size_t bit) { return i * kWordBits + bit; }, end);
  out.resize(static_cast<std::size_t>(end - out.data()));
  return out;
}

}  // namespace akidb::hnsw
