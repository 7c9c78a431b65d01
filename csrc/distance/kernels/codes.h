// The loops of all kernels over codes, written once over the registers of a level, as floats.h does for floats; the
// same rules hold.
//
// A level describes its registers in a struct V:
//   kBytes                   of codes and of query values in a register: 16 or 32
//   Codes, load(p)           kBytes unsigned codes
//   Query, load_query(p)     kBytes signed values
//   load_four(p)             may be left out: val[4] of 4 * kBytes codes or values, loaded by one instruction
//   Sum, zero(), total(s)    partial sums of 32 bits, and their sum; add(a, b)
//   dot8(s, c, q)            adds the products of codes and values
//   dot4(s, t, c, low, high) adds to s those of the low halves of c and `low`; to t, or to s if kSumsOfDot4 is 1, those
//                            of the high halves and `high`; s and t may be the same
//   missing8(query, dim)     what dot8 leaves out of the whole sum, which depends on the query alone
// Chains of sums hide the latency of a product: a single row has a sum for every register of two blocks (of the query,
// if each is multiplied by itself), the rows of a batch two each, or one where a register of 4-bit codes gives work for
// two registers of the query.
#pragma once

#include <cstddef>
#include <cstdint>

#include "distance/distance.h"
#include "distance/kernels/inline.h"

namespace akidb {
namespace {  // NOLINT(misc-anonymous-namespace-in-header): as in floats.h

// A block of kCodeBlock codes of every row, at place i, its registers taking turns at the sums from `first` on.
template <class V, int kRows, int kSums>
AKIDB_INLINE void add_block_u8(const std::int8_t* query, const std::uint8_t* const* rows, std::size_t i, int first,
                               typename V::Sum (*sums)[kSums]) {
  constexpr int kParts = static_cast<int>(kCodeBlock / V::kBytes);
  if constexpr (kRows == 1 && kParts == 4 && requires { V::load_four(query); }) {
    const auto q = V::load_four(query + i);
    const auto row = V::load_four(*rows + i);
    AKIDB_UNROLL
    for (int part = 0; part < kParts; ++part)
      sums[0][first + part] = V::dot8(sums[0][first + part], row.val[part], q.val[part]);
    return;
  }
  AKIDB_UNROLL
  for (int part = 0; part < kParts; ++part) {
    const std::size_t at = i + static_cast<std::size_t>(part) * V::kBytes;
    const typename V::Query q = V::load_query(query + at);
    const int s = (first + part) % kSums;
    AKIDB_UNROLL
    for (int r = 0; r < kRows; ++r) sums[r][s] = V::dot8(sums[r][s], V::load(rows[r] + at), q);
  }
}

template <class V, int kRows, int kSums>
AKIDB_INLINE void add_block_u4(const std::int8_t* query, const std::uint8_t* const* rows, std::size_t i, int first,
                               typename V::Sum (*sums)[kSums]) {
  constexpr std::size_t kHalfBlock = kCodeBlock / 2;
  AKIDB_UNROLL
  for (int part = 0; part < static_cast<int>(kHalfBlock / V::kBytes); ++part) {
    const std::size_t at = static_cast<std::size_t>(part) * V::kBytes;
    const typename V::Query low = V::load_query(query + i + at);
    const typename V::Query high = V::load_query(query + i + kHalfBlock + at);
    constexpr int kStep = kSums == 1 ? 1 : V::kSumsOfDot4;
    const int s = (first + part) * kStep % kSums;
    AKIDB_UNROLL
    for (int r = 0; r < kRows; ++r)
      V::dot4(sums[r][s], sums[r][s + kStep - 1], V::load(rows[r] + i / 2 + at), low, high);
  }
}

template <class V, int kBits, int kRows, int kSums>
AKIDB_INLINE void add_block(const std::int8_t* query, const std::uint8_t* const* rows, std::size_t i, int first,
                            typename V::Sum (*sums)[kSums]) {
  if constexpr (kBits == 8) {
    add_block_u8<V, kRows, kSums>(query, rows, i, first, sums);
  } else {
    add_block_u4<V, kRows, kSums>(query, rows, i, first, sums);
  }
}

template <class V, int kBits, int kRows>
AKIDB_INLINE void accumulate(const std::int8_t* query, const std::uint8_t* const* rows, std::size_t dim,
                             std::int32_t* out) {
  constexpr int kPerBlock = static_cast<int>(kCodeBlock * kBits / 8 / V::kBytes);
  constexpr int kSumsOfOne = 2 * kPerBlock * (kBits == 8 ? 1 : V::kSumsOfDot4);
  constexpr int kSums = kRows == 1 ? kSumsOfOne : kBits == 8 ? 2 : 1;
  typename V::Sum sums[kRows][kSums];
  AKIDB_UNROLL
  for (int r = 0; r < kRows; ++r) {
    AKIDB_UNROLL
    for (int s = 0; s < kSums; ++s) sums[r][s] = V::zero();
  }
  std::size_t i = 0;
  for (; i + 2 * kCodeBlock <= dim; i += 2 * kCodeBlock) {
    add_block<V, kBits, kRows, kSums>(query, rows, i, 0, sums);
    add_block<V, kBits, kRows, kSums>(query, rows, i + kCodeBlock, kPerBlock, sums);
  }
  if (i < dim) add_block<V, kBits, kRows, kSums>(query, rows, i, 0, sums);
  const std::int32_t missing = kBits == 8 ? V::missing8(query, dim) : 0;
  AKIDB_UNROLL
  for (int r = 0; r < kRows; ++r) {
    AKIDB_UNROLL
    for (int s = 1; s < kSums; ++s) sums[r][0] = V::add(sums[r][0], sums[r][s]);
    out[r] = V::total(sums[r][0]) + missing;
  }
}

template <class V>
std::int32_t dot_u8(const std::int8_t* query, const std::uint8_t* codes, std::size_t dim) {
  std::int32_t out = 0;
  accumulate<V, 8, 1>(query, &codes, dim, &out);
  return out;
}

template <class V>
std::int32_t dot_u4(const std::int8_t* query, const std::uint8_t* codes, std::size_t dim) {
  std::int32_t out = 0;
  accumulate<V, 4, 1>(query, &codes, dim, &out);
  return out;
}

template <class V>
void dot_u8_batch4(const std::int8_t* query, const std::uint8_t* const rows[4], std::size_t dim, std::int32_t out[4]) {
  accumulate<V, 8, 4>(query, rows, dim, out);
}

template <class V>
void dot_u4_batch4(const std::int8_t* query, const std::uint8_t* const rows[4], std::size_t dim, std::int32_t out[4]) {
  accumulate<V, 4, 4>(query, rows, dim, out);
}

}  // namespace
}  // namespace akidb
