// AVX-512 with VPOPCNTDQ beside VNNI: Ice Lake, Zen 4 and later. Bits are counted in registers of 256, which suit
// vectors of a few hundred bits and cost Zen 4 nothing.
//
// VDPBF16PS (AVX512-BF16) has no place at any level: it adds two products at a time and flushes subnormals, so its bits
// would not be those of other machines.
#include "distance/kernels/table.h"
#include "distance/kernels/vnni.h"
#include "distance/kernels/zmm.h"

namespace akidb {
namespace {

struct CountedBits : Bits {
  static constexpr std::size_t kBytes = 32;
  static constexpr int kSumsOfOne = 2;
  static constexpr int kSumsOfFour = 1;
  static constexpr int kTileQueries = 4;
  using Reg = __m256i;
  using Sum = __m256i;

  AKIDB_INLINE static Reg load(const std::uint8_t* p) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  }
  AKIDB_INLINE static Reg load_tail(const std::uint8_t* p, std::size_t n) {
    return _mm256_maskz_loadu_epi8((1U << n) - 1U, p);
  }
  AKIDB_INLINE static Sum zero() { return _mm256_setzero_si256(); }
  AKIDB_INLINE static Sum add(Sum a, Sum b) { return _mm256_add_epi64(a, b); }
  AKIDB_INLINE static Sum step(Sum sum, Reg a, Reg b) {
    return _mm256_add_epi64(sum, _mm256_popcnt_epi64(_mm256_xor_si256(a, b)));
  }
  AKIDB_INLINE static std::uint32_t total(Sum s) {
    return static_cast<std::uint32_t>(YmmCodes::total(s));
  }  // the upper halves are zero
};

}  // namespace

namespace avx512_vpopcntdq {
constexpr Kernels kKernels =
    table<VnniCodes, Zmm>(SimdLevel::kAvx512Vpopcntdq, "avx512_vpopcntdq", floats<Zmm>(), floats<ZmmHalf>(),
                          floats<ZmmBFloat>(), bytes<SquaredDifferences<ZmmInt8>, Int8Products>(),
                          bytes<SquaredDifferences<ZmmUint8>, Uint8Products>(), bits<CountedBits>());
}
}  // namespace akidb
