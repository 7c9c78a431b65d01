// Registers of NEON as f32.h wants them. Its eight sums suffice for the four FMA pipes of Neoverse V1 and Apple's
// cores; thirty-two registers hold those of two rows.
#pragma once

#include <arm_neon.h>

#include <cstddef>

#include "distance/kernels/inline.h"

namespace akidb {
namespace {  // NOLINT(misc-anonymous-namespace-in-header): as in f32.h

struct Quad {
  using Reg = float32x4_t;
  static constexpr std::size_t kLanes = 4;
  static constexpr int kRowsAtOnce = 2;

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

}  // namespace
}  // namespace akidb
