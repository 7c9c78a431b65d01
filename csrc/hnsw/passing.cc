#include "hnsw/passing.h"

#include <algorithm>
#include <bit>
#include <numeric>

#include "common/prefetch.h"

namespace akidb::hnsw {

namespace {

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

// std::popcount is a call and a table where the instruction can't be taken for granted.
std::size_t ones(std::uint64_t word) {
  word -= word >> 1 & 0x5555555555555555ULL;
  word = (word & 0x3333333333333333ULL) + (word >> 2 & 0x3333333333333333ULL);
  word = (word + (word >> 4)) & 0x0F0F0F0F0F0F0F0FULL;
  return word * 0x0101010101010101ULL >> 56;
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
  allowed_.resize((count + kWordBits - 1) / kWordBits);
  for (std::size_t i = 0; i < count / kWordBits; ++i) {
    prefetch(allowed + i * kWordBits + kAhead);
    allowed_[i] = bits_of_bytes(allowed + i * kWordBits);
  }
  if (const std::size_t rest = count % kWordBits; rest != 0) {
    std::uint8_t last[kWordBits] = {};
    std::copy_n(allowed + count - rest, rest, last);
    allowed_.back() = bits_of_bytes(last);
  }
  for (const std::uint64_t word : allowed_) total_ += ones(word);
}

std::vector<Node> Passing::by_row() const {
  std::vector<Node> out((is_filtered_ ? total_ : count_) + 1);
  Node* end = out.data();
  if (is_filtered_) {
    for (std::size_t i = 0; i < allowed_.size(); ++i)
      end = write_bits(allowed_[i], [&](std::size_t bit) { return i * kWordBits + bit; }, end);
  } else {
    end += count_;
    std::iota(out.data(), end, Node{0});
  }
  if (removals_.removed_in != nullptr)
    end = std::remove_if(out.data(), end, [removals = removals_](Node row) { return removals.has(row); });
  for (Node* row = out.data(); row < end; ++row) *row = order_.node_of(*row);
  out.resize(static_cast<std::size_t>(end - out.data()));
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
