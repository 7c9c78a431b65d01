// The loops of all kernels over float32, float16 and bfloat16, written once over the registers of a level.
//
// Included by one unit per level and compiled with that unit's flags, hence the unnamed namespace: two units must never
// share an instance, or the linker might keep the one this machine can't run.
//
// A level describes its registers in a struct V per type of element:
//   Element                  what a vector holds: float, or the 16 bits of a shorter one
//   Reg, kLanes              a vector register of floats and how many it holds
//   kRowsAtOnce              1, 2 or 4: rows of a batch that share one load of the query, as far as registers suffice
//   kTileQueries             1, 2 or 4: queries of a tile at once, each with four rows; 1: a tile is four batches
//   kLoadsAtOnce             of a vector of a batch, as far as registers suffice for their sums; the other sums take
//                            another pass over the vectors. A tile's passes are of one load, a single row's of all.
//   Loaded, kParts           a register of elements, and how many registers of floats it makes: 1 or 2
//   load(p), load_tail(p, n) kParts * kLanes elements; n fewer of them and zeros, reading nothing beyond
//   part<k>(loaded)          part k as floats, exactly
//   zero(), add(a, b), sub(a, b), fma(a, b, c) = a * b + c, rounded once
//   total(sums)              sum of the lanes of kTotalled registers: lane i to lane i + half as long as there are more
//                            than four, then (0 + 1) + (2 + 3)
// and, where instructions take elements as they are and round the same:
//   add_products<k>(sum, a, b), difference<k>(a, b): of the parts k of what was loaded
//   Stored                   a load of the query from which difference() takes parts for several rows
// and, where widening holds up what uses it:
//   kWidensAhead             loads of several pairs are widened one ahead of their use
//
// Elements of one load may be spread over its two parts as suits the instructions, in turns where total() knows of it:
// what counts is the order in which values are added.
//
// One order of additions for every level, because graphs are built of these distances and a sealed segment must be the
// same bytes whichever machine builds it: term i goes to partial sum i mod n, and the n are added as a tree, i to
// i + n / 2 and so on to i + 4, and the last four as (0 + 1) + (2 + 3). n is 32, two sums of AVX-512, four of AVX2,
// eight of NEON: enough independent chains to hide the latency of an FMA, but for a single row on AVX-512, where memory
// is slower than the chains anyway. With 64 batches, which search spends its time in, took up to half as many
// instructions again at 128 dimensions. It is also why a batch and a tile equal single calls bit for bit.
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
constexpr int kLoadsOf = kSumsOf<V> / V::kParts;

template <class V>
struct SquaredL2 {
  // What the differences of a query to kRows rows are taken from.
  template <int kRows>
  AKIDB_INLINE static auto query(typename V::Loaded x) {
    if constexpr (kRows > 1 && requires { typename V::Stored; }) {
      return typename V::Stored(x);
    } else {
      return x;
    }
  }
  template <int kPart, class Query>
  AKIDB_INLINE static typename V::Reg step(typename V::Reg sum, const Query& a, typename V::Loaded b) {
    const typename V::Reg difference = difference_of<kPart>(a, b);
    return V::fma(difference, difference, sum);
  }
  template <int kPart, class Query>
  AKIDB_INLINE static typename V::Reg difference_of(const Query& a, typename V::Loaded b) {
    if constexpr (requires { V::template difference<kPart>(a, b); }) {
      return V::template difference<kPart>(a, b);
    } else {
      return V::sub(V::template part<kPart>(a), V::template part<kPart>(b));
    }
  }
};

template <class V>
struct Dot {
  template <int>
  AKIDB_INLINE static typename V::Loaded query(typename V::Loaded x) {
    return x;
  }
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
template <class V, class Op, class Query>
AKIDB_INLINE void add_terms(typename V::Reg* sums, const Query& a, typename V::Loaded b) {
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

// Adds the load at `first` of every block of partial sums; a row is loaded a block ahead of its use and each query as
// soon as nothing of the block is left to do with it, in the place of the one before. Rows of two blocks take turns, so
// that no register is copied, and no load may move across a query: all thirty-two registers are in use.
template <class V, class Op, int kQueries, int kRows>
AKIDB_INLINE void add_blocks_ahead(const typename V::Element* const* queries, const typename V::Element* const* rows,
                                   std::size_t whole, std::size_t first,
                                   typename V::Reg (&sums)[kQueries * kRows][V::kParts]) {
  typename V::Loaded query[kQueries];
  typename V::Loaded row[2][kRows];
  const auto add = [&](int turn, bool has_next, std::size_t next) __attribute__((always_inline)) {
    AKIDB_UNROLL
    for (int q = 0; q < kQueries; ++q) {
      const auto from = Op::template query<kRows>(query[q]);
      AKIDB_UNROLL
      for (int r = 0; r < kRows; ++r) {
        if (has_next && r * kQueries / kRows == q) row[1 - turn][r] = V::load(rows[r] + next);
        add_terms<V, Op>(sums[q * kRows + r], from, row[turn][r]);
      }
      if (has_next) query[q] = V::load(queries[q] + next);
      asm volatile("" ::: "memory");
    }
  };
  if (whole == 0) return;
  AKIDB_UNROLL
  for (int r = 0; r < kRows; ++r) row[0][r] = V::load(rows[r] + first);
  AKIDB_UNROLL
  for (int q = 0; q < kQueries; ++q) query[q] = V::load(queries[q] + first);
  std::size_t next = first + kPartialSums;
  for (; next + kPartialSums < whole; next += 2 * kPartialSums) {
    add(0, true, next);
    add(1, true, next + kPartialSums);
  }
  if (next < whole) {
    add(0, true, next);
    add(1, false, 0);
  } else {
    add(0, false, 0);
  }
}

// sums[q * kRows + r] = those of loads `first` to `first` + kLoads of every block of partial sums, of a query and a
// row.
template <class V, class Op, int kQueries, int kRows, int kLoads>
AKIDB_INLINE void add_loads(const typename V::Element* const* queries, const typename V::Element* const* rows,
                            std::size_t dim, std::size_t first,
                            typename V::Reg (&sums)[kQueries * kRows][kLoads * V::kParts]) {
  using Element = typename V::Element;
  constexpr int kParts = V::kParts;
  constexpr std::size_t kLoad = kParts * V::kLanes;
  AKIDB_UNROLL
  for (int pair = 0; pair < kQueries * kRows; ++pair) {
    AKIDB_UNROLL
    for (int s = 0; s < kLoads * kParts; ++s) sums[pair][s] = V::zero();
  }
  struct Step {
    typename V::Loaded query[kQueries];
    typename V::Loaded row[kRows];
  };
  const auto load_all = [&](auto&& load) __attribute__((always_inline)) {
    Step step;
    AKIDB_UNROLL
    for (int r = 0; r < kRows; ++r) step.row[r] = load(rows[r]);
    AKIDB_UNROLL
    for (int q = 0; q < kQueries; ++q) step.query[q] = load(queries[q]);
    return step;
  };
  const auto add = [&](int l, const Step& step) __attribute__((always_inline)) {
    AKIDB_UNROLL
    for (int q = 0; q < kQueries; ++q) {
      const auto from = Op::template query<kRows>(step.query[q]);
      AKIDB_UNROLL
      for (int r = 0; r < kRows; ++r) add_terms<V, Op>(&sums[q * kRows + r][l * kParts], from, step.row[r]);
    }
  };

  const std::size_t whole = dim / kPartialSums * kPartialSums;
  const auto load_at = [&](std::size_t i, int l) __attribute__((always_inline)) {
    return load_all([i, l](const Element* p) { return V::load(p + i + l * kLoad); });
  };
  if constexpr (kQueries * kRows == 1 || !requires { V::kWidensAhead; }) {
    for (std::size_t i = first * kLoad; i < whole; i += kPartialSums) {
      AKIDB_UNROLL
      for (int l = 0; l < kLoads; ++l) add(l, load_at(i, l));
    }
  } else if constexpr (kLoads > 1) {
    for (std::size_t i = first * kLoad; i < whole; i += kPartialSums) {
      Step steps[2] = {load_at(i, 0)};
      AKIDB_UNROLL
      for (int l = 0; l < kLoads; ++l) {
        if (l + 1 < kLoads) steps[(l + 1) % 2] = load_at(i, l + 1);
        add(l, steps[l % 2]);
      }
    }
  } else {
    add_blocks_ahead<V, Op, kQueries, kRows>(queries, rows, whole, first * kLoad, sums);
  }
  // What is left: up to kLoadsOf - 1 whole loads, then a part of one, each to its own sums.
  const std::size_t left = (dim - whole) / kLoad;
  std::size_t begin = whole + first * kLoad;
  // Two rows at once are a turn of a loop, across which the compiler would keep each place in a register or in memory.
  if constexpr (kQueries * kRows == 2) asm volatile("" : "+r"(begin));
  AKIDB_UNROLL
  for (int l = 0; l < kLoads; ++l) {
    if (first + l >= left) break;
    add(l, load_at(begin, l));
  }
  const std::size_t end = whole + left * kLoad;
  if (end < dim && left >= first && left < first + kLoads) {
    const Step step = load_all([end, dim](const Element* p) { return V::load_tail(p + end, dim - end); });
    AKIDB_UNROLL
    for (int l = 0; l < kLoads; ++l) {
      if (first + l == left) add(l, step);
    }
  }
}

// out[q * kRows + r] = the sum over Op's terms of queries[q] and rows[r]. Where there are not the registers for all
// sums of each pair, the vectors are gone through once for those of kLoads loads, and each time their places are
// visited: as many loads in all.
template <class V, class Op, int kQueries, int kRows, int kLoads>
AKIDB_INLINE void accumulate(const void* const* queries_, const void* const* rows_, std::size_t dim, float* out) {
  using Element = typename V::Element;
  constexpr int kPairs = kQueries * kRows;
  constexpr int kAll = kLoadsOf<V>;
  static_assert(kAll % kLoads == 0);
  const Element* queries[kQueries];
  const Element* rows[kRows];
  AKIDB_UNROLL
  for (int q = 0; q < kQueries; ++q) queries[q] = static_cast<const Element*>(queries_[q]);
  AKIDB_UNROLL
  for (int r = 0; r < kRows; ++r) rows[r] = static_cast<const Element*>(rows_[r]);

  typename V::Reg sums[kPairs][kSumsOf<V>];
  if constexpr (kLoads == kAll) {
    add_loads<V, Op, kQueries, kRows, kAll>(queries, rows, dim, 0, sums);
  } else {
    for (std::size_t first = 0; first < kAll; first += kLoads) {
      typename V::Reg some[kPairs][kLoads * V::kParts];
      add_loads<V, Op, kQueries, kRows, kLoads>(queries, rows, dim, first, some);
      AKIDB_UNROLL
      for (int pair = 0; pair < kPairs; ++pair) {
        AKIDB_UNROLL
        for (int s = 0; s < kLoads * V::kParts; ++s)
          sums[pair][first * V::kParts + static_cast<std::size_t>(s)] = some[pair][s];
      }
    }
  }
  AKIDB_UNROLL
  for (int pair = 0; pair < kPairs; ++pair) out[pair] = total<V, kSumsOf<V>>(sums[pair]);
}

template <class V, template <class> class Op>
struct FloatKernel {
  static float single(const void* a, const void* b, std::size_t dim) {
    float out = 0.0F;
    accumulate<V, Op<V>, 1, 1, kLoadsOf<V>>(&a, &b, dim, &out);
    return out;
  }
  static void batch4(const void* query, const void* const rows[4], std::size_t dim, float out[4]) {
    for (int r = 0; r < 4; r += V::kRowsAtOnce)
      accumulate<V, Op<V>, 1, V::kRowsAtOnce, V::kLoadsAtOnce>(&query, rows + r, dim, out + r);
  }
  static void tile(const void* const queries[4], const void* const rows[4], std::size_t dim, float out[16]) {
    for (std::size_t q = 0; q < kTileSide; q += V::kTileQueries) {
      if constexpr (V::kTileQueries == 1) {
        batch4(queries[q], rows, dim, out + q * kTileSide);
      } else {
        accumulate<V, Op<V>, V::kTileQueries, kTileSide, 1>(queries + q, rows, dim, out + q * kTileSide);
      }
    }
  }
  static constexpr Kernel kernel() { return {single, batch4, tile}; }
};

}  // namespace
}  // namespace akidb
