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
//   Loaded, kParts           a register of elements, and how many registers of floats it makes: 1 or 2
//   load(p), load_tail(p, n) kParts * kLanes elements; n fewer of them and zeros, reading nothing beyond
//   part<k>(loaded)          part k as floats, exactly
//   zero(), add(a, b), sub(a, b), fma(a, b, c) = a * b + c, rounded once
//   total(sums)              sum of the lanes of kTotalled registers: lane i to lane i + half as long as there are more
//                            than four, then (0 + 1) + (2 + 3)
// and, where instructions take elements as they are and round the same:
//   add_products<k>(sum, a, b), difference<k>(a, b): of the parts k of what was loaded
//
// Elements of one load may be spread over its two parts as suits the instructions, in turns where total() knows of it:
// what counts is the order in which values are added.
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
  template <int kPart>
  AKIDB_INLINE static typename V::Reg step(typename V::Reg sum, typename V::Loaded a, typename V::Loaded b) {
    const typename V::Reg difference = difference_of<kPart>(a, b);
    return V::fma(difference, difference, sum);
  }
  template <int kPart>
  AKIDB_INLINE static typename V::Reg difference_of(typename V::Loaded a, typename V::Loaded b) {
    if constexpr (requires { V::template difference<kPart>(a, b); }) {
      return V::template difference<kPart>(a, b);
    } else {
      return V::sub(V::template part<kPart>(a), V::template part<kPart>(b));
    }
  }
};

template <class V>
struct Dot {
  template <int kPart>
  AKIDB_INLINE static typename V::Reg step(typename V::Reg sum, typename V::Loaded a, typename V::Loaded b) {
    if constexpr (requires { V::template add_products<kPart>(sum, a, b); }) {
      return V::template add_products<kPart>(sum, a, b);
    } else {
      return V::fma(V::template part<kPart>(a), V::template part<kPart>(b), sum);
    }
  }
};

// Adds the terms of what was loaded to a sum for each part.
template <class V, class Op>
AKIDB_INLINE void add_terms(typename V::Reg* sums, typename V::Loaded a, typename V::Loaded b) {
  sums[0] = Op::template step<0>(sums[0], a, b);
  if constexpr (V::kParts == 2) sums[1] = Op::template step<1>(sums[1], a, b);
}

// The sum of all lanes of kCount registers, in the order said above.
template <class V, int kCount>
AKIDB_INLINE float total(const typename V::Reg* sums) {
  if constexpr (kCount == V::kTotalled) {
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
  constexpr int kParts = V::kParts;
  constexpr std::size_t kLanes = V::kLanes;
  constexpr std::size_t kLoad = kParts * kLanes;
  typename V::Reg sums[kRows][kSums];
  AKIDB_UNROLL
  for (int r = 0; r < kRows; ++r) {
    AKIDB_UNROLL
    for (int s = 0; s < kSums; ++s) sums[r][s] = V::zero();
  }

  std::size_t i = 0;
  for (; i + kPartialSums <= dim; i += kPartialSums) {
    AKIDB_UNROLL
    for (int s = 0; s < kSums; s += kParts) {
      const typename V::Loaded q = V::load(query + i + s * kLanes);
      AKIDB_UNROLL
      for (int r = 0; r < kRows; ++r) add_terms<V, Op>(&sums[r][s], q, V::load(rows[r] + i + s * kLanes));
    }
  }
  // What is left: up to kSums / kParts - 1 whole loads, then a part of one, each to its own sums.
  const std::size_t whole = (dim - i) / kLoad;
  AKIDB_UNROLL
  for (int s = 0; s < kSums - kParts; s += kParts) {
    if (static_cast<std::size_t>(s) == whole * kParts) break;
    const typename V::Loaded q = V::load(query + i);
    AKIDB_UNROLL
    for (int r = 0; r < kRows; ++r) add_terms<V, Op>(&sums[r][s], q, V::load(rows[r] + i));
    i += kLoad;
  }
  if (i < dim) {
    const typename V::Loaded q = V::load_tail(query + i, dim - i);
    typename V::Loaded ends[kRows];
    AKIDB_UNROLL
    for (int r = 0; r < kRows; ++r) ends[r] = V::load_tail(rows[r] + i, dim - i);
    AKIDB_UNROLL
    for (int s = 0; s < kSums; s += kParts) {
      if (static_cast<std::size_t>(s) != whole * kParts) continue;
      AKIDB_UNROLL
      for (int r = 0; r < kRows; ++r) add_terms<V, Op>(&sums[r][s], q, ends[r]);
    }
  }

  AKIDB_UNROLL
  for (int r = 0; r < kRows; ++r) out[r] = total<V, kSums>(sums[r]);
}

// The same for V::kTileQueries queries and four rows. There are not the registers for all sums of each pair, so the
// vectors are gone through once for those of each load, and each time its places are visited: as many loads in all.
template <class V, class Op>
AKIDB_INLINE void accumulate_tile(const void* const* queries_, const void* const* rows_, std::size_t dim, float* out) {
  using Element = typename V::Element;
  constexpr int kQueries = V::kTileQueries;
  constexpr int kRows = kTileSide;
  constexpr int kSums = kSumsOf<V>;
  constexpr int kParts = V::kParts;
  constexpr std::size_t kLoad = kParts * V::kLanes;
  const Element* queries[kQueries];
  const Element* rows[kRows];
  AKIDB_UNROLL
  for (int q = 0; q < kQueries; ++q) queries[q] = static_cast<const Element*>(queries_[q]);
  AKIDB_UNROLL
  for (int r = 0; r < kRows; ++r) rows[r] = static_cast<const Element*>(rows_[r]);

  typename V::Reg sums[kQueries][kRows][kSums];
  const std::size_t whole = dim / kPartialSums * kPartialSums;
  for (int s = 0; s < kSums; s += kParts) {
    typename V::Reg sum[kQueries][kRows][kParts];
    AKIDB_UNROLL
    for (int q = 0; q < kQueries; ++q) {
      AKIDB_UNROLL
      for (int r = 0; r < kRows; ++r) {
        AKIDB_UNROLL
        for (int k = 0; k < kParts; ++k) sum[q][r][k] = V::zero();
      }
    }
    const auto add = [&](auto&& load) __attribute__((always_inline)) {
      typename V::Loaded row[kRows];
      AKIDB_UNROLL
      for (int r = 0; r < kRows; ++r) row[r] = load(rows[r]);
      AKIDB_UNROLL
      for (int q = 0; q < kQueries; ++q) {
        const typename V::Loaded query = load(queries[q]);
        AKIDB_UNROLL
        for (int r = 0; r < kRows; ++r) add_terms<V, Op>(sum[q][r], query, row[r]);
      }
    };
    std::size_t i = s * V::kLanes;
    for (; i < whole; i += kPartialSums) add([i](const Element* p) { return V::load(p + i); });
    if (i + kLoad <= dim) {
      add([i](const Element* p) { return V::load(p + i); });
    } else if (i < dim) {
      add([i, dim](const Element* p) { return V::load_tail(p + i, dim - i); });
    }
    AKIDB_UNROLL
    for (int q = 0; q < kQueries; ++q) {
      AKIDB_UNROLL
      for (int r = 0; r < kRows; ++r) {
        AKIDB_UNROLL
        for (int k = 0; k < kParts; ++k) sums[q][r][s + k] = sum[q][r][k];
      }
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
