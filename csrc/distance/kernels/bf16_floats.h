// Registers of NEON with BFMLALB and BFMLALT as floats.h wants them: bfloat16 multiplied as it is. They round once,
// like FMLA of the widened elements, and obey FPCR. BFDOT and BFMMLA add two products at a time, round to odd and flush
// subnormals: other bits, so no distance is computed by them.
//
// The even elements of a load go to one sum, the odd ones to the next; the last two sums of a row put them in order.
#pragma once

#include "distance/kernels/quad.h"

namespace akidb {
namespace {  // NOLINT(misc-anonymous-namespace-in-header): as in floats.h

struct Bf16BFloat : QuadOfShorts {
  static constexpr int kTotalled = 2;

  using Stored = StoredParts<Bf16BFloat>;

  AKIDB_INLINE static bfloat16x8_t bfloats(Loaded x) { return vreinterpretq_bf16_u16(x); }
  template <int kPart>
  AKIDB_INLINE static Reg part(Loaded x) {
    const uint32x4_t pairs = vreinterpretq_u32_u16(x);
    return vreinterpretq_f32_u32(kPart == 0 ? vshlq_n_u32(pairs, 16) : vandq_u32(pairs, vdupq_n_u32(0xFFFF0000U)));
  }
  template <int kPart>
  AKIDB_INLINE static Reg add_products(Reg sum, Loaded a, Loaded b) {
    return kPart == 0 ? vbfmlalbq_f32(sum, bfloats(a), bfloats(b)) : vbfmlaltq_f32(sum, bfloats(a), bfloats(b));
  }
  // GCC 12 loads a constant of bfloat16 as if it were one of float16 (FMOV), so it must not know the value.
  AKIDB_INLINE static Loaded minus_ones() {
    Loaded bits = vdupq_n_u16(0xBF80);
    asm("" : "+w"(bits));
    return bits;
  }
  template <int kPart>
  AKIDB_INLINE static Reg difference(Loaded a, Loaded b) {  // a + -1 * b
    return add_products<kPart>(part<kPart>(a), minus_ones(), b);
  }
  template <int kPart>
  AKIDB_INLINE static Reg difference(const Stored& a, Loaded b) {
    return add_products<kPart>(loaded(a.parts[kPart]), minus_ones(), b);
  }
  AKIDB_INLINE static float total(const Reg* r) {
    return vaddvq_f32(vaddq_f32(vzip1q_f32(r[0], r[1]), vzip2q_f32(r[0], r[1])));
  }
};

}  // namespace
}  // namespace akidb
