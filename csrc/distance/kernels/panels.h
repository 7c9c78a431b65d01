// Products of many vectors with many, written once over the registers of a level, as floats.h does for pairs; the same
// rules hold. What is loaded serves as many pairs as registers hold sums, and no sum is ever added up across a
// register: lanes are queries.
//
// The struct V of a level's floats describes beside what floats.h wants of it:
//   kPanelRegisters          of queries at once; kLanes times as many queries are a panel
//   kPanelRows               rows at once: kPanelRegisters * kPanelRows sums stay in registers, enough chains to hide
//                            the latency of an FMA
//   Four, load_four(p)       four elements of a row, or where they lie
//   fma_element<i>(a, b, c)  a * element i of the four + c, rounded as by fma()
//   store(p, r)              kLanes floats
#pragma once

#include <cstddef>

#include "distance/distance.h"
#include "distance/kernels/inline.h"

namespace akidb {
namespace {  // NOLINT(misc-anonymous-namespace-in-header): as in floats.h

template <class V>
struct Panels {
  static constexpr int kRegisters = V::kPanelRegisters;
  static constexpr int kRows = V::kPanelRows;
  static constexpr std::size_t kQueries = kRegisters * V::kLanes;
  using Sums = typename V::Reg[kRows][kRegisters];

  // Element i of every query of the panel, times that of every row.
  template <int kElement>
  AKIDB_INLINE static void add_element(const float* panel, const typename V::Four* fours, Sums& sums) {
    typename V::Reg queries[kRegisters];
    AKIDB_UNROLL
    for (int v = 0; v < kRegisters; ++v) queries[v] = V::load(panel + kElement * kQueries + v * V::kLanes);
    AKIDB_UNROLL
    for (int r = 0; r < kRows; ++r) {
      AKIDB_UNROLL
      for (int v = 0; v < kRegisters; ++v)
        sums[r][v] = V::template fma_element<kElement>(queries[v], fours[r], sums[r][v]);
    }
  }

  static void add(const float* panel, const float* rows, std::size_t dim, float* out) {
    Sums sums;
    AKIDB_UNROLL
    for (int r = 0; r < kRows; ++r) {
      AKIDB_UNROLL
      for (int v = 0; v < kRegisters; ++v) sums[r][v] = V::zero();
    }
    for (std::size_t i = 0; i < dim; i += kPanelStep) {
      typename V::Four fours[kRows];
      AKIDB_UNROLL
      for (int r = 0; r < kRows; ++r) fours[r] = V::load_four(rows + r * kPanelDim + i);
      add_element<0>(panel + i * kQueries, fours, sums);
      add_element<1>(panel + i * kQueries, fours, sums);
      add_element<2>(panel + i * kQueries, fours, sums);
      add_element<3>(panel + i * kQueries, fours, sums);
    }
    AKIDB_UNROLL
    for (int r = 0; r < kRows; ++r) {
      AKIDB_UNROLL
      for (int v = 0; v < kRegisters; ++v) {
        float* const to = out + r * kQueries + v * V::kLanes;
        V::store(to, V::add(V::load(to), sums[r][v]));
      }
    }
  }

  static constexpr PanelKernel kernel() { return {kQueries, kRows, add}; }
};

}  // namespace
}  // namespace akidb
