// Registers of NEON with FMLAL and FMLSL as floats.h wants them: float16 multiplied as it is. A product of two halves
// has 22 bits and fits a float32, and its sum is rounded once, so the bits are those of converting first.
#pragma once

#include "distance/kernels/quad.h"

namespace akidb {
namespace {  // NOLINT(misc-anonymous-namespace-in-header): as in floats.h

constexpr float32x4_t kZero = {};

struct FhmHalf : QuadOfShorts {
  using Stored = StoredParts<FhmHalf>;

  AKIDB_INLINE static float16x8_t halves(Loaded x) { return vreinterpretq_f16_u16(x); }
  AKIDB_INLINE static Loaded ones() { return vdupq_n_u16(0x3C00); }
  // 0 + x * 1, where FCVTL would hold up the two pipes that have it.
  template <int kPart>
  AKIDB_INLINE static Reg part(Loaded x) {
    return add_products<kPart>(loaded(kZero), x, ones());
  }
  template <int kPart>
  AKIDB_INLINE static Reg add_products(Reg sum, Loaded a, Loaded b) {
    return kPart == 0 ? vfmlalq_low_f16(sum, halves(a), halves(b)) : vfmlalq_high_f16(sum, halves(a), halves(b));
  }
  template <int kPart>
  AKIDB_INLINE static Reg difference(Loaded a, Loaded b) {
    return minus<kPart>(part<kPart>(a), b);
  }
  template <int kPart>
  AKIDB_INLINE static Reg difference(const Stored& a, Loaded b) {
    return minus<kPart>(loaded(a.parts[kPart]), b);
  }
  template <int kPart>
  AKIDB_INLINE static Reg minus(Reg a, Loaded b) {  // a - 1 * b
    return kPart == 0 ? vfmlslq_low_f16(a, halves(ones()), halves(b)) : vfmlslq_high_f16(a, halves(ones()), halves(b));
  }
};

}  // namespace
}  // namespace akidb
