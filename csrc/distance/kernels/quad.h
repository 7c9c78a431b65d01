// Registers of NEON as floats.h wants them. Its eight sums suffice for the four FMA pipes of Neoverse V1 and Apple's
// cores; thirty-two registers hold those of two rows.
#pragma once

#include <arm_neon.h>

#include <cstddef>
#include <cstdint>

#include "distance/kernels/inline.h"

namespace akidb {
namespace {  // NOLINT(misc-anonymous-namespace-in-header): as in floats.h

struct Quad {
  using Element = float;
  using Reg = float32x4_t;
  static constexpr std::size_t kLanes = 4;
  static constexpr int kRowsAtOnce = 2;
  static constexpr int kTileQueries = 4;

  AKIDB_INLINE static Reg zero() { return vdupq_n_f32(0.0F); }
  AKIDB_INLINE static Reg load(const float* p) { return vld1q_f32(p); }
  AKIDB_INLINE static Reg load_tail(const float* p, std::size_t n) {
    Reg r = vld1q_lane_f32(p, zero(), 0);
    if (n > 1) r = vld1q_lane_f32(p + 1, r, 1);
    if (n > 2) r = vld1q_lane_f32(p + 2, r, 2);
    return r;
  }
  AKIDB_INLINE static Reg add(Reg a, Reg b) { return vaddq_f32(a, b); }
  AKIDB_INLINE static Reg sub(Reg a, Reg b) { return vsubq_f32(a, b); }
  AKIDB_INLINE static Reg fma(Reg a, Reg b, Reg c) { return vfmaq_f32(c, a, b); }
  AKIDB_INLINE static float total(const Reg* r) { return vaddvq_f32(*r); }  // FADDP: of neighbours
};

// Elements of 16 bits, four at a time.
AKIDB_INLINE uint16x4_t some_halves(const std::uint16_t* p, std::size_t n) {
  uint16x4_t r = vld1_lane_u16(p, vdup_n_u16(0), 0);
  if (n > 1) r = vld1_lane_u16(p + 1, r, 1);
  if (n > 2) r = vld1_lane_u16(p + 2, r, 2);
  return r;
}

struct QuadHalf : Quad {
  using Element = std::uint16_t;
  AKIDB_INLINE static Reg widened(uint16x4_t bits) { return vcvt_f32_f16(vreinterpret_f16_u16(bits)); }
  AKIDB_INLINE static Reg load(const Element* p) { return widened(vld1_u16(p)); }
  AKIDB_INLINE static Reg load_tail(const Element* p, std::size_t n) { return widened(some_halves(p, n)); }
};

struct QuadBFloat : Quad {
  using Element = std::uint16_t;
  AKIDB_INLINE static Reg widened(uint16x4_t bits) { return vreinterpretq_f32_u32(vshll_n_u16(bits, 16)); }
  AKIDB_INLINE static Reg load(const Element* p) { return widened(vld1_u16(p)); }
  AKIDB_INLINE static Reg load_tail(const Element* p, std::size_t n) { return widened(some_halves(p, n)); }
};

}  // namespace
}  // namespace akidb
