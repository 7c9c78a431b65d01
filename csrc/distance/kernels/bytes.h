// The loops of all kernels over int8, uint8 and binary vectors, written once over the registers of a level, as floats.h
// does for floats; the same rules hold. Sums are exact integers of 32 bits, so one per pair will do, and every level
// gives the same number; only the last step, to float32, may round.
//
// A level describes a step of a sum in a struct V:
//   Value                    std::int32_t or std::uint32_t, which holds the sum over 65,536 elements
//   kBytes                   of a vector that a step takes in
//   kTileQueries             as in floats.h
//   bytes(dim)               of a vector
//   Reg, Sum                 kBytes bytes, perhaps widened; partial sums, modulo 2^32
//   load(p), load_tail(p, n) kBytes bytes; n < kBytes of them and zeros, reading nothing beyond
//   zero(), total(sum)       std::uint32_t
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

// out[4 * q + r] for kQueries queries and kRows rows.
template <class V, int kQueries, int kRows>
AKIDB_INLINE void accumulate_bytes(const void* const* queries, const void* const* rows, std::size_t dim, float* out) {
  typename V::Sum sums[kQueries][kRows];
  typename V::Sum of_query[kQueries];
  AKIDB_UNROLL
  for (int q = 0; q < kQueries; ++q) {
    of_query[q] = V::zero();
    AKIDB_UNROLL
    for (int r = 0; r < kRows; ++r) sums[q][r] = V::zero();
  }
  const auto add = [&](auto&& load) __attribute__((always_inline)) {
    typename V::Reg row[kRows];
    AKIDB_UNROLL
    for (int r = 0; r < kRows; ++r) row[r] = load(static_cast<const std::uint8_t*>(rows[r]));
    AKIDB_UNROLL
    for (int q = 0; q < kQueries; ++q) {
      const typename V::Reg query = load(static_cast<const std::uint8_t*>(queries[q]));
      if constexpr (V::kOffset != 0) of_query[q] = V::add_up(of_query[q], query);
      AKIDB_UNROLL
      for (int r = 0; r < kRows; ++r) sums[q][r] = V::step(sums[q][r], query, row[r]);
    }
  };
  const std::size_t bytes = V::bytes(dim);
  std::size_t i = 0;
  for (; i + V::kBytes <= bytes; i += V::kBytes) add([i](const std::uint8_t* p) { return V::load(p + i); });
  if (i < bytes) add([i, bytes](const std::uint8_t* p) { return V::load_tail(p + i, bytes - i); });
  AKIDB_UNROLL
  for (int q = 0; q < kQueries; ++q) {
    std::uint32_t excess = 0;
    if constexpr (V::kOffset != 0) excess = V::kOffset * V::total(of_query[q]);
    AKIDB_UNROLL
    for (int r = 0; r < kRows; ++r) {
      out[q * static_cast<int>(kTileSide) + r] =
          static_cast<float>(static_cast<typename V::Value>(V::total(sums[q][r]) - excess));
    }
  }
}

template <class V>
struct ByteKernel {
  static float single(const void* a, const void* b, std::size_t dim) {
    float out = 0.0F;
    accumulate_bytes<V, 1, 1>(&a, &b, dim, &out);
    return out;
  }
  static void batch4(const void* query, const void* const rows[4], std::size_t dim, float out[4]) {
    accumulate_bytes<V, 1, 4>(&query, rows, dim, out);
  }
  static void tile(const void* const queries[4], const void* const rows[4], std::size_t dim, float out[16]) {
    for (std::size_t q = 0; q < kTileSide; q += V::kTileQueries)
      accumulate_bytes<V, V::kTileQueries, 4>(queries + q, rows, dim, out + q * kTileSide);
  }
  static constexpr Kernel kernel() { return {single, batch4, tile}; }
};

}  // namespace
}  // namespace akidb
