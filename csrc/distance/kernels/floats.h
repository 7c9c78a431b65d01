// The loops of all kernels over float32, float16 and bfloat16, written once over the registers of a level.
//
// Included by one unit per level and compiled with that unit's flags, hence the unnamed namespace: two units must never
// share an instance, or the linker might keep the one this machine can't run.
//
// A level describes its registers in a struct V per type of element:
//   Element                  what a vector holds: float, or the 16 bits of a shorter one
//   Reg, kLanes              a vector register of floats and how many it holds; kSums = 32 / kLanes of them per row
//   kRowsAtOnce              1, 2 or 4: rows of a batch that share one load of the query, as far as registers suffice
//   kTileQueries             1, 2 or 4: queries of a tile at once, each with four rows; 1: a tile is four batches
//   load(p), load_tail(p, n) kLanes elements as floats; n < kLanes of them and zeros, reading nothing beyond
//   zero(), add(a, b), sub(a, b), fma(a, b, c) = a * b + c, rounded once
//   total(r)                 sum of the lanes: lane i to lane i + half as long as there are more than four, then
//                            (0 + 1) + (2 + 3); where kLanes is 1, of four registers
//
// One order of additions for every level, because graphs are built of these distances and a sealed segment must be the
// same bytes whichever machine builds it: term i goes to partial sum i mod 32, and the 32 are added as a tree, i to
// i + 16, to i + 8, to i + 4, and the last four as (0 + 1) + (2 + 3). Thirty-two are two sums of AVX-512, four of AVX2,
// eight of NEON: enough independent chains to hide the latency of an FMA, but for a single row on AVX-512, where memory
// is slower than the chains anyway. It is also why a batch and a tile equal single calls bit for bit.
#pragma once

#include <cstddef>

#include "distance/distance.h"
#include "distance/kernels/inline.h"

namespace akidb {
namespace {  // NOLINT(misc-anonymous-namespace-in-header): meant, as said above

constexpr std::size_t kPartialSums = 32;

template <class V>
constexpr int kSumsOf = static_cast<int>(kPartialSums / V::kLanes);

template <class V>
struct SquaredL2 {
  AKIDB_INLINE static typename V::Reg step(typename V::Reg sum, typename V::Reg a, typename V::Reg b) {
    const typename V::Reg difference = V::sub(a, b);
    return V::fma(difference, difference, sum);
  }
};

template <class V>
struct Dot {
  AKIDB_INLINE static typename V::Reg step(typename V::Reg sum, typename V::Reg a, typename V::Reg b) {
    return V::fma(a, b, sum);
  }
};

// The sum of all lanes of kCount registers, in the order said above.
template <class V, int kCount>
AKIDB_INLINE float total(const typename V::Reg* sums) {
  if constexpr (kCount * V::kLanes <= 4 || kCount == 1) {
    return V::total(sums);
  } else {
    typename V::Reg halves[kCount / 2];
    AKIDB_UNROLL
    for (int s = 0; s < kCount / 2; ++s) halves[s] = V::add(sums[s], sums[s + kCount / 2]);
    return total<V, kCount / 2>(halves);
  }
}

// out[r] = the sum over Op's terms of query and rows[r], for kRows rows in one pass.
template <class V, class Op, int kRows>
AKIDB_INLINE void accumulate(const void* query_, const void* const* rows_, std::size_t dim, float* out) {
  using Element = typename V::Element;
  const auto* query = static_cast<const Element*>(query_);
  const Element* rows[kRows];
  AKIDB_UNROLL
  for (int r = 0; r < kRows; ++r) rows[r] = static_cast<const Element*>(rows_[r]);
  constexpr int kSums = kSumsOf<V>;
  constexpr std::size_t kLanes = V::kLanes;
  typename V::Reg sums[kRows][kSums];
  AKIDB_UNROLL
  for (int r = 0; r < kRows; ++r) {
    AKIDB_UNROLL
    for (int s = 0; s < kSums; ++s) sums[r][s] = V::zero();
  }

  std::size_t i = 0;
  for (; i + kPartialSums <= dim; i += kPartialSums) {
    AKIDB_UNROLL
    for (int s = 0; s < kSums; ++s) {
      const typename V::Reg q = V::load(query + i + s * kLanes);
      AKIDB_UNROLL
      for (int r = 0; r < kRows; ++r) sums[r][s] = Op::step(sums[r][s], q, V::load(rows[r] + i + s * kLanes));
    }
  }
  // What is left: up to kSums - 1 whole registers, then a part of one, each to its own sum.
  const std::size_t whole = (dim - i) / kLanes;
  AKIDB_UNROLL
  for (int s = 0; s < kSums - 1; ++s) {
    if (static_cast<std::size_t>(s) == whole) break;
    const typename V::Reg q = V::load(query + i);
    AKIDB_UNROLL
    for (int r = 0; r < kRows; ++r) sums[r][s] = Op::step(sums[r][s], q, V::load(rows[r] + i));
    i += kLanes;
  }
  if (i < dim) {
    const typename V::Reg q = V::load_tail(query + i, dim - i);
    typename V::Reg parts[kRows];
    AKIDB_UNROLL
    for (int r = 0; r < kRows; ++r) parts[r] = V::load_tail(rows[r] + i, dim - i);
    AKIDB_UNROLL
    for (int s = 0; s < kSums; ++s) {
      if (static_cast<std::size_t>(s) != whole) continue;
      AKIDB_UNROLL
      for (int r = 0; r < kRows; ++r) sums[r][s] = Op::step(sums[r][s], q, parts[r]);
    }
  }

  AKIDB_UNROLL
  for (int r = 0; r < kRows; ++r) out[r] = total<V, kSums>(sums[r]);
}

// The same for V::kTileQueries queries and four rows. There are not the registers for all sums of each pair, so the
// vectors are gone through once for each, and each time the parts of one sum are visited: as many loads in all.
template <class V, class Op>
AKIDB_INLINE void accumulate_tile(const void* const* queries_, const void* const* rows_, std::size_t dim, float* out) {
  using Element = typename V::Element;
  constexpr int kQueries = V::kTileQueries;
  constexpr int kRows = kTileSide;
  constexpr int kSums = kSumsOf<V>;
  constexpr std::size_t kLanes = V::kLanes;
  const Element* queries[kQueries];
  const Element* rows[kRows];
  AKIDB_UNROLL
  for (int q = 0; q < kQueries; ++q) queries[q] = static_cast<const Element*>(queries_[q]);
  AKIDB_UNROLL
  for (int r = 0; r < kRows; ++r) rows[r] = static_cast<const Element*>(rows_[r]);

  typename V::Reg sums[kQueries][kRows][kSums];
  const std::size_t whole = dim / kPartialSums * kPartialSums;
  for (int s = 0; s < kSums; ++s) {
    typename V::Reg sum[kQueries][kRows];
    AKIDB_UNROLL
    for (int q = 0; q < kQueries; ++q) {
      AKIDB_UNROLL
      for (int r = 0; r < kRows; ++r) sum[q][r] = V::zero();
    }
    const auto add = [&](auto&& load) __attribute__((always_inline)) {
      typename V::Reg row[kRows];
      AKIDB_UNROLL
      for (int r = 0; r < kRows; ++r) row[r] = load(rows[r]);
      AKIDB_UNROLL
      for (int q = 0; q < kQueries; ++q) {
        const typename V::Reg query = load(queries[q]);
        AKIDB_UNROLL
        for (int r = 0; r < kRows; ++r) sum[q][r] = Op::step(sum[q][r], query, row[r]);
      }
    };
    std::size_t i = s * kLanes;
    for (; i < whole; i += kPartialSums) add([i](const Element* p) { return V::load(p + i); });
    if (i + kLanes <= dim) {
      add([i](const Element* p) { return V::load(p + i); });
    } else if (i < dim) {
      add([i, dim](const Element* p) { return V::load_tail(p + i, dim - i); });
    }
    AKIDB_UNROLL
    for (int q = 0; q < kQueries; ++q) {
      AKIDB_UNROLL
      for (int r = 0; r < kRows; ++r) sums[q][r][s] = sum[q][r];
    }
  }
  AKIDB_UNROLL
  for (int q = 0; q < kQueries; ++q) {
    AKIDB_UNROLL
    for (int r = 0; r < kRows; ++r) out[q * kRows + r] = total<V, kSums>(sums[q][r]);
  }
}

template <class V, template <class> class Op>
struct FloatKernel {
  static float single(const void* a, const void* b, std::size_t dim) {
    float out = 0.0F;
    accumulate<V, Op<V>, 1>(a, &b, dim, &out);
    return out;
  }
  static void batch4(const void* query, const void* const rows[4], std::size_t dim, float out[4]) {
    for (int r = 0; r < 4; r += V::kRowsAtOnce) accumulate<V, Op<V>, V::kRowsAtOnce>(query, rows + r, dim, out + r);
  }
  static void tile(const void* const queries[4], const void* const rows[4], std::size_t dim, float out[16]) {
    for (std::size_t q = 0; q < kTileSide; q += V::kTileQueries) {
      if constexpr (V::kTileQueries == 1) {
        batch4(queries[q], rows, dim, out + q * kTileSide);
      } else {
        accumulate_tile<V, Op<V>>(queries + q, rows, dim, out + q * kTileSide);
      }
    }
  }
  static constexpr Kernel kernel() { return {single, batch4, tile}; }
};

}  // namespace
}  // namespace akidb
