// SVE with registers of 256 bits: Neoverse V1 (Graviton3), whose two pipes of that width do what its four of NEON do,
// in half the instructions and with a third more bytes loaded per cycle. At 128 bits (Neoverse V2, N2) NEON is as good,
// so there is no unit for it.
//
// -msve-vector-bits=256 makes the types sized, as floats.h and codes.h need them; the level is detected by that length.
#include <arm_sve.h>

#include <cstddef>
#include <cstdint>

#include "distance/kernels/dotprod_bytes.h"
#include "distance/kernels/table.h"

namespace akidb {
namespace {

using Floats256 = svfloat32_t __attribute__((arm_sve_vector_bits(256)));
using Bytes256 = svuint8_t __attribute__((arm_sve_vector_bits(256)));
using Values256 = svint8_t __attribute__((arm_sve_vector_bits(256)));
using Words256 = svint32_t __attribute__((arm_sve_vector_bits(256)));

struct Sve {
  using Element = float;
  using Reg = Floats256;
  static constexpr std::size_t kLanes = 8;
  static constexpr int kRowsAtOnce = 4;
  static constexpr int kTileQueries = 4;

  AKIDB_INLINE static Reg zero() { return svdup_n_f32(0.0F); }
  AKIDB_INLINE static Reg load(const float* p) { return svld1_f32(svptrue_b32(), p); }
  // An inactive lane is not read.
  AKIDB_INLINE static Reg load_tail(const float* p, std::size_t n) { return svld1_f32(svwhilelt_b32_u64(0, n), p); }
  AKIDB_INLINE static Reg add(Reg a, Reg b) { return svadd_f32_x(svptrue_b32(), a, b); }
  AKIDB_INLINE static Reg sub(Reg a, Reg b) { return svsub_f32_x(svptrue_b32(), a, b); }
  AKIDB_INLINE static Reg fma(Reg a, Reg b, Reg c) { return svmla_f32_x(svptrue_b32(), c, a, b); }
  // FADDV adds neighbours, then neighbours of those; inactive lanes count as -0, which changes nothing.
  AKIDB_INLINE static float total(const Reg* r) {
    const Reg four = svadd_f32_x(svptrue_b32(), *r, svext_f32(*r, *r, 4));
    return svaddv_f32(svptrue_pat_b32(SV_VL4), four);
  }
};

// LD1H puts elements of 16 bits into the lower halves of lanes of 32.
struct SveHalf : Sve {
  using Element = std::uint16_t;
  AKIDB_INLINE static Reg some(svbool_t which, const Element* p) {
    return svcvt_f32_f16_x(svptrue_b32(), svreinterpret_f16_u32(svld1uh_u32(which, p)));  // zero where inactive
  }
  AKIDB_INLINE static Reg load(const Element* p) { return some(svptrue_b32(), p); }
  AKIDB_INLINE static Reg load_tail(const Element* p, std::size_t n) { return some(svwhilelt_b32_u64(0, n), p); }
};

struct SveBFloat : Sve {
  using Element = std::uint16_t;
  AKIDB_INLINE static Reg some(svbool_t which, const Element* p) {
    return svreinterpret_f32_u32(svlsl_n_u32_x(svptrue_b32(), svld1uh_u32(which, p), 16));
  }
  AKIDB_INLINE static Reg load(const Element* p) { return some(svptrue_b32(), p); }
  AKIDB_INLINE static Reg load_tail(const Element* p, std::size_t n) { return some(svwhilelt_b32_u64(0, n), p); }
};

struct SveCodes {
  static constexpr std::size_t kBytes = 32;
  using Codes = Bytes256;
  using Query = Values256;
  using Sum = Words256;

  AKIDB_INLINE static Codes load(const std::uint8_t* p) { return svld1_u8(svptrue_b8(), p); }
  AKIDB_INLINE static Query load_query(const std::int8_t* p) { return svld1_s8(svptrue_b8(), p); }
  AKIDB_INLINE static Sum zero() { return svdup_n_s32(0); }
  AKIDB_INLINE static Sum add(Sum a, Sum b) { return svadd_s32_x(svptrue_b32(), a, b); }
  AKIDB_INLINE static Sum dot8(Sum sum, Codes c, Query q) { return svusdot_s32(sum, c, q); }
  AKIDB_INLINE static Sum dot4(Sum sum, Codes c, Query q_low, Query q_high) {
    const Codes low = svand_n_u8_x(svptrue_b8(), c, 15);
    const Codes high = svlsr_n_u8_x(svptrue_b8(), c, 4);
    return svusdot_s32(svusdot_s32(sum, low, q_low), high, q_high);
  }
  AKIDB_INLINE static std::int32_t total(Sum s) { return static_cast<std::int32_t>(svaddv_s32(svptrue_b32(), s)); }
  AKIDB_INLINE static std::int32_t missing8(const std::int8_t*, std::size_t) { return 0; }
};

}  // namespace

namespace sve256 {
constexpr Kernels kKernels =
    table<SveCodes>(SimdLevel::kSve256, "sve256", floats<Sve>(), floats<SveHalf>(), floats<SveBFloat>(),
                    bytes<DotprodInt8SquaredDifferences, DotprodInt8Products>(),
                    bytes<DotprodUint8SquaredDifferences, DotprodUint8Products>(), bits<DotprodDifferingBits>());
}
}  // namespace akidb
