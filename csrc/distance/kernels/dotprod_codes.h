// Registers of NEON with SDOT as codes.h wants them.
#pragma once

#include "distance/kernels/quad_codes.h"

namespace akidb {
namespace {  // NOLINT(misc-anonymous-namespace-in-header): as in floats.h

struct DotprodCodes : QuadCodes {
  static constexpr int kSumsOfDot4 = 2;
  AKIDB_INLINE static uint8x16x4_t load_four(const std::uint8_t* p) { return vld1q_u8_x4(p); }
  AKIDB_INLINE static int8x16x4_t load_four(const std::int8_t* p) { return vld1q_s8_x4(p); }
  // SDOT takes signed bytes on both sides, so a code counts as code - 128, and missing8 brings the rest. USDOT would
  // take them as they are, but needs i8mm, which Graviton 2, Apple M1 and Orin lack.
  AKIDB_INLINE static Sum dot8(Sum sum, Codes c, Query q) { return vdotq_s32(sum, signed_codes(c), q); }
  AKIDB_INLINE static void dot4(Sum& sum, Sum& other, Codes c, Query q_low, Query q_high) {
    sum = vdotq_s32(sum, low(c), q_low);
    other = vdotq_s32(other, high(c), q_high);
  }
  AKIDB_INLINE static std::int32_t missing8(const std::int8_t* query, std::size_t dim) {
    Sum sum = zero();
    for (std::size_t i = 0; i < dim; i += kBytes) sum = vdotq_s32(sum, vdupq_n_s8(1), load_query(query + i));
    return 128 * total(sum);
  }

  AKIDB_INLINE static std::int32_t missing_in_panel(const std::int8_t* query, std::size_t dim) {
    return missing8(query, dim);
  }
  static constexpr int kPanelRows = 8;
  static constexpr int kPanelQueries = 8;
  struct PanelRows {
    int8x16_t of[2];
  };
  struct PanelSum {
    int32x4_t of[2];
  };
  AKIDB_INLINE static PanelRows load_rows(const std::uint8_t* p) {
    return {{signed_codes(vld1q_u8(p)), signed_codes(vld1q_u8(p + 16))}};
  }
  AKIDB_INLINE static PanelSum no_sum() { return {{zero(), zero()}}; }
  template <int kFour>
  AKIDB_INLINE static void add_rows(PanelSum& sum, const PanelRows& rows, Values values) {
    for (int i = 0; i < 2; ++i) sum.of[i] = vdotq_laneq_s32(sum.of[i], rows.of[i], values, kFour);
  }
  AKIDB_INLINE static void store_sum(std::int32_t* out, PanelSum sum, std::int32_t more) {
    for (int i = 0; i < 2; ++i) vst1q_s32(out + 4 * i, vaddq_s32(sum.of[i], vdupq_n_s32(more)));
  }
};

}  // namespace
}  // namespace akidb
