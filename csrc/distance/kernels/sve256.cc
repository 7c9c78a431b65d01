// SVE with registers of 256 bits: Neoverse V1 (Graviton3), whose two pipes of that width do what its four of NEON do,
// in half the instructions and with a third more bytes loaded per cycle. At 128 bits (Neoverse V2, N2) NEON is as good,
// so there is no unit for it. Elements of 16 bits stay with NEON: SVE's FCVT is slow and FMLALB not in its first
// version; its BFMLALB would save loads in cache, of bfloat16 alone.
//
// -msve-vector-bits=256 makes the types sized, as floats.h and codes.h need them; the level is detected by that length.
#include <arm_sve.h>

#include <cstddef>
#include <cstdint>

#include "distance/kernels/bf16_floats.h"
#include "distance/kernels/dotprod_bytes.h"
#include "distance/kernels/fhm_floats.h"
#include "distance/kernels/table.h"
#include "distance/kernels/usdot_panels.h"

namespace akidb {
namespace {

using Floats256 = svfloat32_t __attribute__((arm_sve_vector_bits(256)));
using Bytes256 = svuint8_t __attribute__((arm_sve_vector_bits(256)));
using Values256 = svint8_t __attribute__((arm_sve_vector_bits(256)));
using Words256 = svint32_t __attribute__((arm_sve_vector_bits(256)));
using Counts256 = svuint32_t __attribute__((arm_sve_vector_bits(256)));

struct Sve {
  using Element = float;
  using Reg = Floats256;
  using Loaded = Reg;
  static constexpr std::size_t kLanes = 8;
  static constexpr int kParts = 1;
  static constexpr int kTotalled = 1;
  static constexpr int kRowsAtOnce = 4;
  static constexpr int kLoadsAtOnce = 4;
  static constexpr int kTileQueries = 4;

  AKIDB_INLINE static Reg zero() { return svdup_n_f32(0.0F); }
  AKIDB_INLINE static Reg load(const float* p) { return svld1_f32(svptrue_b32(), p); }
  // An inactive lane is not read.
  AKIDB_INLINE static Reg load_tail(const float* p, std::size_t n) { return svld1_f32(svwhilelt_b32_u64(0, n), p); }
  template <int>
  AKIDB_INLINE static Reg part(Reg r) {
    return r;
  }
  AKIDB_INLINE static Reg add(Reg a, Reg b) { return svadd_f32_x(svptrue_b32(), a, b); }
  AKIDB_INLINE static Reg sub(Reg a, Reg b) { return svsub_f32_x(svptrue_b32(), a, b); }
  AKIDB_INLINE static Reg fma(Reg a, Reg b, Reg c) { return svmla_f32_x(svptrue_b32(), c, a, b); }
  // FADDV adds neighbours, then neighbours of those; inactive lanes count as -0, which changes nothing.
  AKIDB_INLINE static float total(const Reg* r) {
    const Reg four = svadd_f32_x(svptrue_b32(), *r, svext_f32(*r, *r, 4));
    return svaddv_f32(svptrue_pat_b32(SV_VL4), four);
  }
};

template <class Shape>
struct SveBytes : Shape {
  static constexpr std::size_t kBytes = 32;
  static constexpr int kSumsOfOne = 4;
  static constexpr int kSumsOfFour = 2;
  using Reg = Bytes256;

  AKIDB_INLINE static Reg load(const std::uint8_t* p) { return svld1_u8(svptrue_b8(), p); }
  AKIDB_INLINE static Reg load_tail(const std::uint8_t* p, std::size_t n) {
    return svld1_u8(svwhilelt_b8_u64(0, n), p);
  }
};

template <class Shape>
struct SveUnsigned : SveBytes<Shape> {
  using Value = std::uint32_t;
  using Sum = Counts256;

  AKIDB_INLINE static Sum zero() { return svdup_n_u32(0); }
  AKIDB_INLINE static Sum add(Sum a, Sum b) { return svadd_u32_x(svptrue_b32(), a, b); }
  AKIDB_INLINE static std::uint32_t total(Sum s) { return static_cast<std::uint32_t>(svaddv_u32(svptrue_b32(), s)); }
};

struct SveUint8SquaredDifferences : SveUnsigned<WholeBytes> {
  AKIDB_INLINE static Sum step(Sum sum, Reg a, Reg b) {
    const Reg distances = svabd_u8_x(svptrue_b8(), a, b);
    return svdot_u32(sum, distances, distances);
  }
};

struct SveInt8SquaredDifferences : SveUnsigned<WholeBytes> {
  AKIDB_INLINE static Sum step(Sum sum, Reg a, Reg b) {
    const Reg distances = svreinterpret_u8_s8(svabd_s8_x(svptrue_b8(), svreinterpret_s8_u8(a), svreinterpret_s8_u8(b)));
    return svdot_u32(sum, distances, distances);
  }
};

struct SveUint8Products : SveUnsigned<WholeBytes> {
  AKIDB_INLINE static Sum step(Sum sum, Reg a, Reg b) { return svdot_u32(sum, a, b); }
};

struct SveInt8Products : SveBytes<WholeBytes> {
  using Value = std::int32_t;
  using Sum = Words256;

  AKIDB_INLINE static Sum zero() { return svdup_n_s32(0); }
  AKIDB_INLINE static Sum add(Sum a, Sum b) { return svadd_s32_x(svptrue_b32(), a, b); }
  AKIDB_INLINE static std::uint32_t total(Sum s) { return static_cast<std::uint32_t>(svaddv_s32(svptrue_b32(), s)); }
  AKIDB_INLINE static Sum step(Sum sum, Reg a, Reg b) {
    return svdot_s32(sum, svreinterpret_s8_u8(a), svreinterpret_s8_u8(b));
  }
};

struct SveDifferingBits : SveUnsigned<Bits> {
  AKIDB_INLINE static Sum step(Sum sum, Reg a, Reg b) {
    return svdot_u32(sum, svcnt_u8_x(svptrue_b8(), sveor_u8_x(svptrue_b8(), a, b)), svdup_n_u8(1));
  }
};

struct SveCodes {
  static constexpr std::size_t kBytes = 32;
  static constexpr int kSumsOfDot4 = 2;
  using Codes = Bytes256;
  using Query = Values256;
  using Sum = Words256;

  AKIDB_INLINE static Codes load(const std::uint8_t* p) { return svld1_u8(svptrue_b8(), p); }
  AKIDB_INLINE static Query load_query(const std::int8_t* p) { return svld1_s8(svptrue_b8(), p); }
  AKIDB_INLINE static Sum zero() { return svdup_n_s32(0); }
  AKIDB_INLINE static Sum add(Sum a, Sum b) { return svadd_s32_x(svptrue_b32(), a, b); }
  AKIDB_INLINE static Sum dot8(Sum sum, Codes c, Query q) { return svusdot_s32(sum, c, q); }
  AKIDB_INLINE static void dot4(Sum& sum, Sum& other, Codes c, Query q_low, Query q_high) {
    const Codes low = svand_n_u8_x(svptrue_b8(), c, 15);
    const Codes high = svlsr_n_u8_x(svptrue_b8(), c, 4);
    sum = svusdot_s32(sum, low, q_low);
    other = svusdot_s32(other, high, q_high);
  }
  AKIDB_INLINE static std::int32_t total(Sum s) { return static_cast<std::int32_t>(svaddv_s32(svptrue_b32(), s)); }
  AKIDB_INLINE static std::int32_t missing8(const std::int8_t*, std::size_t) { return 0; }
};

// Panels stay with NEON too, of codes since lanes of 128 bits share a value there as here: FMLA by an element takes it
// from one of eight registers, and copies cost a sixth. Tiles of bytes are bound by arithmetic, of which NEON does as
// much without copying what SVE's UABD overwrites.
template <class Rows, class Tiles>
constexpr Kernel rows_and_tiles() {
  return {ByteKernel<Rows>::single, ByteKernel<Rows>::batch4, ByteKernel<Tiles>::tile};
}

constexpr TypeKernels kInt8 = {rows_and_tiles<SveInt8SquaredDifferences, DotprodInt8SquaredDifferences>(),
                               rows_and_tiles<SveInt8Products, DotprodInt8Products>()};
constexpr TypeKernels kUint8 = {rows_and_tiles<SveUint8SquaredDifferences, DotprodUint8SquaredDifferences>(),
                                rows_and_tiles<SveUint8Products, DotprodUint8Products>()};
constexpr TypeKernels kBinary = {rows_and_tiles<SveDifferingBits, DotprodDifferingBits>(), {}};

}  // namespace

namespace sve256 {
constexpr Kernels kKernels = table<SveCodes, Quad, UsdotPanels>(
    SimdLevel::kSve256, "sve256", floats<Sve>(), floats<FhmHalf>(), floats<Bf16BFloat>(), kInt8, kUint8, kBinary);
}
}  // namespace akidb
