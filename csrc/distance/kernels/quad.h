// Registers of NEON as floats.h wants them. Its eight sums suffice for the four FMA pipes of Neoverse V1 and Apple's
// cores; thirty-two registers hold those of two rows.
#pragma once

#include <arm_neon.h>

#include <cstddef>
#include <cstdint>

#include "distance/kernels/bytes.h"

namespace akidb {
namespace {  // NOLINT(misc-anonymous-namespace-in-header): as in floats.h

struct Quad {
  using Element = float;
  using Reg = float32x4_t;
  using Loaded = Reg;
  static constexpr std::size_t kLanes = 4;
  static constexpr int kParts = 1;
  static constexpr int kTotalled = 1;
  static constexpr int kRowsAtOnce = 2;
  static constexpr int kLoadsAtOnce = 8;
  static constexpr int kTileQueries = 4;
  static constexpr int kPanelRegisters = 2;
  static constexpr int kPanelRows = 8;
  using Four = float32x4_t;

  AKIDB_INLINE static Reg zero() { return vdupq_n_f32(0.0F); }
  AKIDB_INLINE static Reg load(const float* p) { return vld1q_f32(p); }
  AKIDB_INLINE static Reg load_tail(const float* p, std::size_t n) {
    Reg r = vld1q_lane_f32(p, zero(), 0);
    if (n > 1) r = vld1q_lane_f32(p + 1, r, 1);
    if (n > 2) r = vld1q_lane_f32(p + 2, r, 2);
    return r;
  }
  template <int>
  AKIDB_INLINE static Reg part(Reg r) {
    return r;
  }
  AKIDB_INLINE static Reg add(Reg a, Reg b) { return vaddq_f32(a, b); }
  AKIDB_INLINE static Reg sub(Reg a, Reg b) { return vsubq_f32(a, b); }
  AKIDB_INLINE static Reg fma(Reg a, Reg b, Reg c) { return vfmaq_f32(c, a, b); }
  AKIDB_INLINE static void store(float* p, Reg r) { vst1q_f32(p, r); }
  AKIDB_INLINE static Four load_four(const float* p) { return vld1q_f32(p); }
  template <int kElement>
  AKIDB_INLINE static Reg fma_element(Reg a, Four b, Reg c) {
    return vfmaq_laneq_f32(c, a, b, kElement);
  }
  AKIDB_INLINE static float total(const Reg* r) { return vaddvq_f32(*r); }  // FADDP: of neighbours
};

// FCVTL has one pipe at most, every other cycle on Neoverse N1: nothing else that keeps NaN, infinity and subnormals
// takes less than it does. Ahead of its use it leaves the other pipes to additions.
struct QuadHalf : Quad {
  using Element = std::uint16_t;
  static constexpr int kRowsAtOnce = 4;
  static constexpr int kLoadsAtOnce = 4;
  static constexpr bool kWidensAhead = true;
  AKIDB_INLINE static Reg widened(uint16x4_t bits) { return vcvt_f32_f16(vreinterpret_f16_u16(bits)); }
  AKIDB_INLINE static Reg load(const Element* p) { return widened(vld1_u16(p)); }
  AKIDB_INLINE static Reg load_tail(const Element* p, std::size_t n) {
    uint16x4_t r = vld1_lane_u16(p, vdup_n_u16(0), 0);
    if (n > 1) r = vld1_lane_u16(p + 1, r, 1);
    if (n > 2) r = vld1_lane_u16(p + 2, r, 2);
    return widened(r);
  }
};

// Eight elements of 16 bits to a load, two registers of floats.
struct QuadOfShorts : Quad {
  using Element = std::uint16_t;
  using Loaded = uint16x8_t;
  static constexpr int kParts = 2;
  static constexpr int kRowsAtOnce = 4;
  static constexpr int kLoadsAtOnce = 2;
  static constexpr int kTileQueries = 2;

  AKIDB_INLINE static Loaded load(const Element* p) { return vld1q_u16(p); }
  AKIDB_INLINE static Loaded load_tail(const Element* p, std::size_t n) {
    const Padded<16> padded(reinterpret_cast<const std::uint8_t*>(p), n * sizeof *p);
    return vreinterpretq_u16_u8(vld1q_u8(padded.bytes));
  }
};

// A register for what overwrites it, loaded: loads have pipes to themselves, a copy of another register takes one of
// arithmetic, and compilers copy where they can.
AKIDB_INLINE float32x4_t loaded(const float32x4_t& from) {
  float32x4_t r;
  asm volatile("ldr %q0, %1" : "=w"(r) : "m"(from));
  return r;
}

// A load of the query as floats, in memory.
template <class V>
struct StoredParts {
  AKIDB_INLINE explicit StoredParts(uint16x8_t x) : parts{V::template part<0>(x), V::template part<1>(x)} {}
  float32x4_t parts[2];
};

// ZIP puts zeros below the elements and has every pipe, SHLL half of them.
struct QuadBFloat : QuadOfShorts {
  template <int kPart>
  AKIDB_INLINE static Reg part(Loaded x) {
    return vreinterpretq_f32_u16(kPart == 0 ? vzip1q_u16(vdupq_n_u16(0), x) : vzip2q_u16(vdupq_n_u16(0), x));
  }
};

}  // namespace
}  // namespace akidb
