// NEON, in every 64-bit ARM processor.
#include "distance/kernels/quad.h"
#include "distance/kernels/quad_bytes.h"
#include "distance/kernels/quad_codes.h"
#include "distance/kernels/table.h"

namespace akidb {
namespace {

// Products of two bytes fit 16 bits, two of them may not.
AKIDB_INLINE uint32x4_t add_products(uint32x4_t sum, uint8x16_t a, uint8x16_t b) {
  sum = vpadalq_u16(sum, vmull_u8(vget_low_u8(a), vget_low_u8(b)));
  return vpadalq_u16(sum, vmull_u8(vget_high_u8(a), vget_high_u8(b)));
}

struct Uint8SquaredDifferences : QuadUnsigned<WholeBytes, 8> {
  AKIDB_INLINE static Sum step(Sum sum, Reg a, Reg b) { return add_products(sum, vabdq_u8(a, b), vabdq_u8(a, b)); }
};

struct Int8SquaredDifferences : QuadUnsigned<WholeBytes, 8> {
  AKIDB_INLINE static Sum step(Sum sum, Reg a, Reg b) {
    return add_products(sum, distances_of_int8(a, b), distances_of_int8(a, b));
  }
};

struct Uint8Products : QuadUnsigned<WholeBytes, 8> {
  AKIDB_INLINE static Sum step(Sum sum, Reg a, Reg b) { return add_products(sum, a, b); }
};

struct Int8Products : QuadSigned<8> {
  AKIDB_INLINE static Sum step(Sum sum, Reg a, Reg b) {
    sum = vpadalq_s16(sum, vmull_s8(vget_low_s8(a), vget_low_s8(b)));
    return vpadalq_s16(sum, vmull_s8(vget_high_s8(a), vget_high_s8(b)));
  }
};

struct DifferingBits : QuadUnsigned<Bits, 8> {
  AKIDB_INLINE static Sum step(Sum sum, Reg a, Reg b) { return vpadalq_u16(sum, vpaddlq_u8(differing_bits(a, b))); }
};

}  // namespace

namespace neon {
constexpr Kernels kKernels =
    table<QuadCodes, Quad>(SimdLevel::kNeon, "neon", floats<Quad>(), floats<QuadHalf>(), floats<QuadBFloat>(),
                           bytes<Int8SquaredDifferences, Int8Products>(),
                           bytes<Uint8SquaredDifferences, Uint8Products>(), bits<DifferingBits>());
}
}  // namespace akidb
