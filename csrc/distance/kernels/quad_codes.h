// Registers of NEON as codes.h wants them.
#pragma once

#include <arm_neon.h>

#include <cstddef>
#include <cstdint>

#include "distance/kernels/inline.h"

namespace akidb {
namespace {  // NOLINT(misc-anonymous-namespace-in-header): as in floats.h

struct QuadCodes {
  static constexpr std::size_t kBytes = 16;
  static constexpr int kSumsOfDot4 = 1;
  using Codes = uint8x16_t;
  using Query = int8x16_t;
  using Sum = int32x4_t;

  AKIDB_INLINE static Codes load(const std::uint8_t* p) { return vld1q_u8(p); }
  AKIDB_INLINE static Query load_query(const std::int8_t* p) { return vld1q_s8(p); }
  AKIDB_INLINE static Sum zero() { return vdupq_n_s32(0); }
  AKIDB_INLINE static Sum add(Sum a, Sum b) { return vaddq_s32(a, b); }
  AKIDB_INLINE static int8x16_t low(Codes c) { return vreinterpretq_s8_u8(vandq_u8(c, vdupq_n_u8(15))); }
  AKIDB_INLINE static int8x16_t high(Codes c) { return vreinterpretq_s8_u8(vshrq_n_u8(c, 4)); }
  AKIDB_INLINE static Sum dot8(Sum sum, Codes c, Query q) {
    const int16x8_t c_front = vreinterpretq_s16_u16(vmovl_u8(vget_low_u8(c)));
    const int16x8_t c_back = vreinterpretq_s16_u16(vmovl_u8(vget_high_u8(c)));
    const int16x8_t q_front = vmovl_s8(vget_low_s8(q));
    const int16x8_t q_back = vmovl_s8(vget_high_s8(q));
    sum = vmlal_s16(sum, vget_low_s16(c_front), vget_low_s16(q_front));
    sum = vmlal_s16(sum, vget_high_s16(c_front), vget_high_s16(q_front));
    sum = vmlal_s16(sum, vget_low_s16(c_back), vget_low_s16(q_back));
    return vmlal_s16(sum, vget_high_s16(c_back), vget_high_s16(q_back));
  }
  // Four products of at most 15 * 128 fit 16 bits.
  AKIDB_INLINE static void dot4(Sum& sum, Sum&, Codes c, Query q_low, Query q_high) {
    const int8x16_t front = low(c);
    const int8x16_t back = high(c);
    int16x8_t products = vmull_s8(vget_low_s8(front), vget_low_s8(q_low));
    products = vmlal_s8(products, vget_high_s8(front), vget_high_s8(q_low));
    products = vmlal_s8(products, vget_low_s8(back), vget_low_s8(q_high));
    products = vmlal_s8(products, vget_high_s8(back), vget_high_s8(q_high));
    sum = vpadalq_s16(sum, products);
  }
  AKIDB_INLINE static std::int32_t total(Sum s) { return vaddvq_s32(s); }
  AKIDB_INLINE static std::int32_t missing8(const std::int8_t*, std::size_t) { return 0; }

  static constexpr int kPanelRows = 4;
  static constexpr int kPanelQueries = 4;
  using PanelRows = int8x16_t;
  using Values = int8x16_t;
  struct PanelSum {
    int32x4_t front, back;  // of two rows each, in halves
  };
  // As code - 128, a code times a value fits 16 bits without being widened first.
  AKIDB_INLINE static int8x16_t signed_codes(Codes c) { return vreinterpretq_s8_u8(veorq_u8(c, vdupq_n_u8(0x80))); }
  AKIDB_INLINE static PanelRows load_rows(const std::uint8_t* p) { return signed_codes(vld1q_u8(p)); }
  AKIDB_INLINE static Values load_values(const std::int8_t* p) { return vld1q_s8(p); }
  AKIDB_INLINE static PanelSum no_sum() { return {zero(), zero()}; }
  template <int kFour>
  AKIDB_INLINE static void add_rows(PanelSum& sum, PanelRows rows, Values values) {
    const int8x16_t four = vreinterpretq_s8_s32(vdupq_laneq_s32(vreinterpretq_s32_s8(values), kFour));
    sum.front = vpadalq_s16(sum.front, vmull_s8(vget_low_s8(rows), vget_low_s8(four)));
    sum.back = vpadalq_s16(sum.back, vmull_high_s8(rows, four));
  }
  AKIDB_INLINE static std::int32_t missing_in_panel(const std::int8_t* query, std::size_t dim) {
    Sum sum = zero();
    for (std::size_t i = 0; i < dim; i += kBytes) sum = vpadalq_s16(sum, vpaddlq_s8(load_query(query + i)));
    return 128 * total(sum);
  }
  AKIDB_INLINE static void store_sum(std::int32_t* out, PanelSum sum, std::int32_t more) {
    vst1q_s32(out, vaddq_s32(vpaddq_s32(sum.front, sum.back), vdupq_n_s32(more)));
  }
};

}  // namespace
}  // namespace akidb
