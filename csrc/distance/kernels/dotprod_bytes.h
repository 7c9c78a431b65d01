// Registers of NEON with SDOT and UDOT as bytes.h wants them.
#pragma once

#include "distance/kernels/quad_bytes.h"

namespace akidb {
namespace {  // NOLINT(misc-anonymous-namespace-in-header): as in floats.h

struct DotprodUint8SquaredDifferences : QuadUnsigned<WholeBytes, 4> {
  AKIDB_INLINE static Sum step(Sum sum, Reg a, Reg b) { return vdotq_u32(sum, vabdq_u8(a, b), vabdq_u8(a, b)); }
};

struct DotprodInt8SquaredDifferences : QuadUnsigned<WholeBytes, 4> {
  AKIDB_INLINE static Sum step(Sum sum, Reg a, Reg b) {
    return vdotq_u32(sum, distances_of_int8(a, b), distances_of_int8(a, b));
  }
};

struct DotprodUint8Products : QuadUnsigned<WholeBytes, 4> {
  AKIDB_INLINE static Sum step(Sum sum, Reg a, Reg b) { return vdotq_u32(sum, a, b); }
};

struct DotprodInt8Products : QuadSigned<4> {
  AKIDB_INLINE static Sum step(Sum sum, Reg a, Reg b) { return vdotq_s32(sum, a, b); }
};

struct DotprodDifferingBits : QuadUnsigned<Bits, 4> {
  AKIDB_INLINE static Sum step(Sum sum, Reg a, Reg b) { return vdotq_u32(sum, differing_bits(a, b), vdupq_n_u8(1)); }
};

}  // namespace
}  // namespace akidb
