// Products of many rows of codes with many queries, written once over the registers of a level, as codes.h does for one
// query; the same rules hold. Lanes are rows, so that no sum is ever added up across a register.
//
// The struct V of codes.h describes beside what that wants:
//   kPanelRows                rows at once, of the kCodePanel of a panel
//   kPanelQueries             queries at once: enough chains of sums to hide the latency of a product
//   PanelRows, load_rows(p)   four codes of each of the rows
//   Values, load_values(p)    kStep values of a query, or where they lie
//   PanelSum, no_sum()        a sum for each of the rows
//   add_rows<i>(s, rows, v)   adds the products with the i-th four of the values
//   missing_in_panel(query, dim)  what add_rows leaves out of each row's whole sum, as missing8
//   store_sum(out, s, more)   the sums, with `more` added to each
#pragma once

#include <cstddef>
#include <cstdint>

#include "distance/distance.h"
#include "distance/kernels/inline.h"

namespace akidb {
namespace {  // NOLINT(misc-anonymous-namespace-in-header): as in floats.h

template <class V>
struct CodePanels {
  static constexpr std::size_t kStep = 16;  // values of a query: a register of the narrowest
  static constexpr int kRows = V::kPanelRows;
  static constexpr int kQueries = V::kPanelQueries;

  template <int kFour>
  AKIDB_INLINE static void add_four(const std::uint8_t* codes, const typename V::Values* values,
                                    typename V::PanelSum* sums) {
    const typename V::PanelRows rows = V::load_rows(codes + kFour * 4 * kCodePanel);
    AKIDB_UNROLL
    for (int q = 0; q < kQueries; ++q) V::template add_rows<kFour>(sums[q], rows, values[q]);
  }

  AKIDB_INLINE static void some(const std::uint8_t* codes, const std::int8_t* const* queries, std::size_t dim,
                                const std::int32_t* missing, std::int32_t* out) {
    typename V::PanelSum sums[kQueries];
    AKIDB_UNROLL
    for (int q = 0; q < kQueries; ++q) sums[q] = V::no_sum();
    for (std::size_t i = 0; i < dim; i += kStep) {
      typename V::Values values[kQueries];
      AKIDB_UNROLL
      for (int q = 0; q < kQueries; ++q) values[q] = V::load_values(queries[q] + i);
      add_four<0>(codes + i * kCodePanel, values, sums);
      add_four<1>(codes + i * kCodePanel, values, sums);
      add_four<2>(codes + i * kCodePanel, values, sums);
      add_four<3>(codes + i * kCodePanel, values, sums);
    }
    AKIDB_UNROLL
    for (int q = 0; q < kQueries; ++q) V::store_sum(out + q * kCodePanel, sums[q], missing[q]);
  }

  static void dot(const std::uint8_t* panel, const std::int8_t* const queries[kCodePanelQueries], std::size_t dim,
                  std::int32_t* out) {
    std::int32_t missing[kCodePanelQueries];
    for (std::size_t q = 0; q < kCodePanelQueries; ++q) missing[q] = V::missing_in_panel(queries[q], dim);
    for (std::size_t q = 0; q < kCodePanelQueries; q += kQueries) {
      for (std::size_t r = 0; r < kCodePanel; r += kRows)
        some(panel + 4 * r, queries + q, dim, missing + q, out + q * kCodePanel + r);
    }
  }
};

}  // namespace
}  // namespace akidb
