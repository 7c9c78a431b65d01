// The loops of all kernels over int8, uint8 and binary vectors, written once over the registers of a level, as floats.h
// does for floats; the same rules hold. Sums are exact integers of 32 bits, so a pair may have any number of them, and
// every level gives the same number; only the last step, to float32, may round.
//
// A level describes a step of a sum in a struct V:
//   Value                    std::int32_t or std::uint32_t, which holds the sum over 65,536 elements
//   kBytes                   of a vector that a step takes in
//   kTileQueries             as in floats.h
//   kSumsOfOne, kSumsOfFour  how many sums a single row and each of four has, which take turns: as many chains as hide
//                            the latency of a step; a pair of a tile has one
//   bytes(dim)               of a vector
//   Reg, Sum                 kBytes bytes, perhaps widened; partial sums, modulo 2^32
//   load(p), load_tail(p, n) kBytes bytes; n < kBytes of them and zeros, reading nothing beyond
//   load_four(p)             may be left out: Reg val[4] of 4 * kBytes bytes, loaded by one instruction
//   zero(), add(a, b), total(sum), which is a std::uint32_t
//   step(sum, query, row)    adds the terms
//   kOffset                  what step adds too much per unit of the query's sum: 0, or else
//   add_up(sum, query)       adds the query's elements
#pragma once

#include <cstddef>
#include <cstdint>

#include "distance/distance.h"
#include "distance/kernels/inline.h"

namespace akidb {
namespace {  // NOLINT(misc-anonymous-namespace-in-header): as in floats.h

// A part of a register, which no load masks: n < kCount bytes and zeros.
template <std::size_t kCount>
struct Padded {
  AKIDB_INLINE Padded(const std::uint8_t* p, std::size_t n) {
    for (std::size_t i = 0; i < n; ++i) bytes[i] = p[i];
  }
  alignas(kCount) std::uint8_t bytes[kCount] = {};
};

struct WholeBytes {
  AKIDB_INLINE static std::size_t bytes(std::size_t dim) { return dim; }
  static constexpr std::uint32_t kOffset = 0;
};

struct Bits {
  using Value = std::uint32_t;
  AKIDB_INLINE static std::size_t bytes(std::size_t dim) { return (dim + 7) / 8; }
  static constexpr std::uint32_t kOffset = 0;
};

template <class V, int kCount>
AKIDB_INLINE typename V::Sum sum_of(const typename V::Sum* sums) {
  if constexpr (kCount == 1) {
    return *sums;
  } else {
    return V::add(sum_of<V, kCount / 2>(sums), sum_of<V, kCount / 2>(sums + kCount / 2));
  }
}

// out[4 * q + r] for kQueries queries and kRows rows.
template <class V, int kQueries, int kRows, int kSums>
AKIDB_INLINE void accumulate_bytes(const void* const* queries, const void* const* rows, std::size_t dim, float* out) {
  typename V::Sum sums[kQueries][kRows][kSums];
  typename V::Sum of_query[kQueries][kSums];
  AKIDB_UNROLL
  for (int q = 0; q < kQueries; ++q) {
    AKIDB_UNROLL
    for (int s = 0; s < kSums; ++s) {
      of_query[q][s] = V::zero();
      AKIDB_UNROLL
      for (int r = 0; r < kRows; ++r) sums[q][r][s] = V::zero();
    }
  }
  const auto add = [&](int s, auto&& load) __attribute__((always_inline)) {
    typename V::Reg row[kRows];
    AKIDB_UNROLL
    for (int r = 0; r < kRows; ++r) row[r] = load(static_cast<const std::uint8_t*>(rows[r]));
    AKIDB_UNROLL
    for (int q = 0; q < kQueries; ++q) {
      const typename V::Reg query = load(static_cast<const std::uint8_t*>(queries[q]));
      if constexpr (V::kOffset != 0) of_query[q][s] = V::add_up(of_query[q][s], query);
      AKIDB_UNROLL
      for (int r = 0; r < kRows; ++r) sums[q][r][s] = V::step(sums[q][r][s], query, row[r]);
    }
  };
  const std::size_t bytes = V::bytes(dim);
  std::size_t i = 0;
  for (; i + kSums * V::kBytes <= bytes; i += kSums * V::kBytes) {
    if constexpr (kQueries * kRows == 1 && kSums == 4 && requires { V::load_four; }) {
      const auto query = V::load_four(static_cast<const std::uint8_t*>(*queries) + i);
      const auto row = V::load_four(static_cast<const std::uint8_t*>(*rows) + i);
      AKIDB_UNROLL
      for (int s = 0; s < kSums; ++s) sums[0][0][s] = V::step(sums[0][0][s], query.val[s], row.val[s]);
    } else {
      AKIDB_UNROLL
      for (int s = 0; s < kSums; ++s)
        add(s, [at = i + s * V::kBytes](const std::uint8_t* p) { return V::load(p + at); });
    }
  }
  AKIDB_UNROLL
  for (int s = 0; s < kSums - 1; ++s) {
    if (i + V::kBytes > bytes) break;
    add(s, [i](const std::uint8_t* p) { return V::load(p + i); });
    i += V::kBytes;
  }
  if (i < bytes) add(kSums - 1, [i, bytes](const std::uint8_t* p) { return V::load_tail(p + i, bytes - i); });
  AKIDB_UNROLL
  for (int q = 0; q < kQueries; ++q) {
    std::uint32_t excess = 0;
    if constexpr (V::kOffset != 0) excess = V::kOffset * V::total(sum_of<V, kSums>(of_query[q]));
    AKIDB_UNROLL
    for (int r = 0; r < kRows; ++r) {
      const std::uint32_t total = V::total(sum_of<V, kSums>(sums[q][r]));
      out[q * static_cast<int>(kTileSide) + r] = static_cast<float>(static_cast<typename V::Value>(total - excess));
    }
  }
}

template <class V>
struct ByteKernel {
  static float single(const void* a, const void* b, std::size_t dim) {
    float out = 0.0F;
    accumulate_bytes<V, 1, 1, V::kSumsOfOne>(&a, &b, dim, &out);
    return out;
  }
  static void batch4(const void* query, const void* const rows[4], std::size_t dim, float out[4]) {
    accumulate_bytes<V, 1, 4, V::kSumsOfFour>(&query, rows, dim, out);
  }
  static void tile(const void* const queries[4], const void* const rows[4], std::size_t dim, float out[16]) {
    for (std::size_t q = 0; q < kTileSide; q += V::kTileQueries)
      accumulate_bytes<V, V::kTileQueries, 4, 1>(queries + q, rows, dim, out + q * kTileSide);
  }
  static constexpr Kernel kernel() { return {single, batch4, tile}; }
};

}  // namespace
}  // namespace akidb
