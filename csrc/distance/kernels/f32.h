// The loops of all float32 kernels, written once over the registers of a level.
//
// Included by one unit per level and compiled with that unit's flags, hence the unnamed namespace: two units must never
// share an instance, or the linker might keep the one this machine can't run.
//
// A level describes its registers in a struct V:
//   Reg, kLanes              a vector register of floats and how many it holds
//   kSums                    partial sums per row; enough independent chains to hide the latency of an FMA
//   kRowsAtOnce              1, 2 or 4: rows of a batch that share one load of the query, as far as registers suffice
//   for kSums each load(p), load_tail(p, n) kLanes floats; n < kLanes floats and zeros, reading nothing beyond zero(),
//   add(a, b), sub(a, b), fma(a, b, c) = a * b + c, total(r) = sum of the lanes
//
// Every row has kSums sums whatever the number of rows at once, added up in one fixed
// order: that is why a batch equals single calls bit for bit. Fewer sums per row in
// the batch would save registers on AVX2 and NEON, and was rejected for that reason.
#pragma once

#include <cstddef>

#include "distance/kernels/inline.h"

namespace akidb {
namespace {  // NOLINT(misc-anonymous-namespace-in-header): meant, as said above

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

// ((s0 + s1) + (s2 + s3)) + ...: a tree, for the shorter chain of latencies and the smaller error.
template <class V, int kCount>
AKIDB_INLINE typename V::Reg pairwise(const typename V::Reg* sums) {
  if constexpr (kCount == 1) {
    return sums[0];
  } else {
    return V::add(pairwise<V, kCount / 2>(sums), pairwise<V, kCount / 2>(sums + kCount / 2));
  }
}

// out[r] = the sum over Op's terms of query and rows[r], for kRows rows in one pass.
template <class V, class Op, int kRows>
AKIDB_INLINE void accumulate(const float* query, const float* const* rows, std::size_t dim, float* out) {
  constexpr int kSums = V::kSums;
  constexpr std::size_t kLanes = V::kLanes;
  typename V::Reg sums[kRows][kSums];
  AKIDB_UNROLL
  for (int r = 0; r < kRows; ++r) {
    AKIDB_UNROLL
    for (int s = 0; s < kSums; ++s) sums[r][s] = V::zero();
  }

  std::size_t i = 0;
  for (; i + kSums * kLanes <= dim; i += kSums * kLanes) {
    AKIDB_UNROLL
    for (int s = 0; s < kSums; ++s) {
      const typename V::Reg q = V::load(query + i + s * kLanes);
      AKIDB_UNROLL
      for (int r = 0; r < kRows; ++r) sums[r][s] = Op::step(sums[r][s], q, V::load(rows[r] + i + s * kLanes));
    }
  }
  // What is left: up to kSums - 1 whole registers, each to a sum of its own so that their latencies overlap too, then a
  // part of one.
  AKIDB_UNROLL
  for (int s = 0; s < kSums - 1; ++s) {
    if (i + kLanes > dim) break;
    const typename V::Reg q = V::load(query + i);
    AKIDB_UNROLL
    for (int r = 0; r < kRows; ++r) sums[r][s] = Op::step(sums[r][s], q, V::load(rows[r] + i));
    i += kLanes;
  }
  if (i < dim) {
    const typename V::Reg q = V::load_tail(query + i, dim - i);
    AKIDB_UNROLL
    for (int r = 0; r < kRows; ++r) {
      sums[r][kSums - 1] = Op::step(sums[r][kSums - 1], q, V::load_tail(rows[r] + i, dim - i));
    }
  }

  AKIDB_UNROLL
  for (int r = 0; r < kRows; ++r) out[r] = V::total(pairwise<V, kSums>(sums[r]));
}

template <class V, template <class> class Op>
float single(const float* a, const float* b, std::size_t dim) {
  float out = 0.0F;
  accumulate<V, Op<V>, 1>(a, &b, dim, &out);
  return out;
}

template <class V, template <class> class Op>
void batch4(const float* query, const float* const rows[4], std::size_t dim, float out[4]) {
  for (int r = 0; r < 4; r += V::kRowsAtOnce) accumulate<V, Op<V>, V::kRowsAtOnce>(query, rows + r, dim, out + r);
}

}  // namespace
}  // namespace akidb
