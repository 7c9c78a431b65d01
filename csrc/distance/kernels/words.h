// Words of 64 bits and POPCNT as bytes.h wants them: what x86 counts bits with, and scalar.cc by a step of its own.
// Counting in vector registers takes nine instructions per register before VPOPCNTDQ, and is no faster.
#pragma once

#include "distance/kernels/bytes.h"

namespace akidb {
namespace {  // NOLINT(misc-anonymous-namespace-in-header): as in floats.h

struct WordBits : Bits {
  static constexpr std::size_t kBytes = 8;
  static constexpr int kSumsOfOne = 4;  // Zen counts four words per cycle
  static constexpr int kSumsOfFour = 1;
  static constexpr int kTileQueries = 1;
  using Reg = std::uint64_t;
  using Sum = std::uint64_t;

  AKIDB_INLINE static Reg load(const std::uint8_t* p) {
    Reg word;
    __builtin_memcpy(&word, p, sizeof word);
    return word;
  }
  AKIDB_INLINE static Reg load_tail(const std::uint8_t* p, std::size_t n) { return load(Padded<8>(p, n).bytes); }
  AKIDB_INLINE static Sum zero() { return 0; }
  AKIDB_INLINE static Sum step(Sum sum, Reg a, Reg b) { return sum + static_cast<Sum>(__builtin_popcountll(a ^ b)); }
  AKIDB_INLINE static Sum add(Sum a, Sum b) { return a + b; }
  AKIDB_INLINE static std::uint32_t total(Sum s) { return static_cast<std::uint32_t>(s); }
};

}  // namespace
}  // namespace akidb
