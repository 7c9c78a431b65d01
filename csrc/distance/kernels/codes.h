// The loops of all kernels over codes, written once over the registers of a level, as f32.h does for floats; the same
// rules hold.
//
// A level describes its registers in a struct V:
//   kBytes                   of codes and of query values in a register: 16 or 32
//   Codes, load(p)           kBytes unsigned codes
//   Query, load_query(p)     kBytes signed values
//   Sum, zero(), total(s)    partial sums of 32 bits, and their sum
//   dot8(s, c, q)            adds the products of codes and values
//   dot4(s, c, low, high)    adds those of the low halves of c and `low`, and of the high halves and `high`
//   missing8(query, dim)     what dot8 leaves out of the whole sum, which depends on the query alone
// One sum per row: the rows of a batch are chains enough to hide its latency.
#pragma once

#include <cstddef>
#include <cstdint>

#include "distance/kernels/inline.h"

namespace akidb {
namespace {  // NOLINT(misc-anonymous-namespace-in-header): as in f32.h

template <class V, int kRows>
AKIDB_INLINE void accumulate_u8(const std::int8_t* query, const std::uint8_t* const* rows, std::size_t dim,
                                std::int32_t* out) {
  typename V::Sum sums[kRows];
  AKIDB_UNROLL
  for (int r = 0; r < kRows; ++r) sums[r] = V::zero();
  for (std::size_t i = 0; i < dim; i += V::kBytes) {
    const typename V::Query q = V::load_query(query + i);
    AKIDB_UNROLL
    for (int r = 0; r < kRows; ++r) sums[r] = V::dot8(sums[r], V::load(rows[r] + i), q);
  }
  const std::int32_t missing = V::missing8(query, dim);
  AKIDB_UNROLL
  for (int r = 0; r < kRows; ++r) out[r] = V::total(sums[r]) + missing;
}

template <class V, int kRows>
AKIDB_INLINE void accumulate_u4(const std::int8_t* query, const std::uint8_t* const* rows, std::size_t dim,
                                std::int32_t* out) {
  constexpr std::size_t kHalfBlock = 32;
  typename V::Sum sums[kRows];
  AKIDB_UNROLL
  for (int r = 0; r < kRows; ++r) sums[r] = V::zero();
  for (std::size_t i = 0; i < dim / 2; i += kHalfBlock) {
    AKIDB_UNROLL
    for (std::size_t part = 0; part < kHalfBlock; part += V::kBytes) {
      const typename V::Query low = V::load_query(query + 2 * i + part);
      const typename V::Query high = V::load_query(query + 2 * i + kHalfBlock + part);
      AKIDB_UNROLL
      for (int r = 0; r < kRows; ++r) sums[r] = V::dot4(sums[r], V::load(rows[r] + i + part), low, high);
    }
  }
  AKIDB_UNROLL
  for (int r = 0; r < kRows; ++r) out[r] = V::total(sums[r]);
}

template <class V>
std::int32_t dot_u8(const std::int8_t* query, const std::uint8_t* codes, std::size_t dim) {
  std::int32_t out = 0;
  accumulate_u8<V, 1>(query, &codes, dim, &out);
  return out;
}

template <class V>
std::int32_t dot_u4(const std::int8_t* query, const std::uint8_t* codes, std::size_t dim) {
  std::int32_t out = 0;
  accumulate_u4<V, 1>(query, &codes, dim, &out);
  return out;
}

template <class V>
void dot_u8_batch4(const std::int8_t* query, const std::uint8_t* const rows[4], std::size_t dim, std::int32_t out[4]) {
  accumulate_u8<V, 4>(query, rows, dim, out);
}

template <class V>
void dot_u4_batch4(const std::int8_t* query, const std::uint8_t* const rows[4], std::size_t dim, std::int32_t out[4]) {
  accumulate_u4<V, 4>(query, rows, dim, out);
}

}  // namespace
}  // namespace akidb
