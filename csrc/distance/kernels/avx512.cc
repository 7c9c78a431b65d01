// AVX-512: Skylake-X and later. Codes in registers of 256 bits: without VNNI the wider ones gain nothing on rows of a
// few hundred bytes.
#include "distance/kernels/table.h"
#include "distance/kernels/words.h"
#include "distance/kernels/ymm_codes.h"
#include "distance/kernels/zmm.h"
#include "distance/kernels/zmm_bytes.h"

namespace akidb {
namespace {

template <class Byte>
struct SquaredDifferences : Byte {
  using Value = std::uint32_t;
  AKIDB_INLINE static __m512i step(__m512i sum, __m512i a, __m512i b) {
    const __m512i difference = _mm512_sub_epi16(a, b);
    return _mm512_add_epi32(sum, _mm512_madd_epi16(difference, difference));
  }
};

template <class Byte, class Total>
struct Products : Byte {
  using Value = Total;
  AKIDB_INLINE static __m512i step(__m512i sum, __m512i a, __m512i b) {
    return _mm512_add_epi32(sum, _mm512_madd_epi16(a, b));
  }
};

}  // namespace

namespace avx512 {
constexpr Kernels kKernels =
    table<YmmCodes, Zmm>(SimdLevel::kAvx512, "avx512", floats<Zmm>(), floats<ZmmHalf>(), floats<ZmmBFloat>(),
                         bytes<SquaredDifferences<ZmmInt8>, Products<ZmmInt8, std::int32_t>>(),
                         bytes<SquaredDifferences<ZmmUint8>, Products<ZmmUint8, std::uint32_t>>(), bits<WordBits>());
}
}  // namespace akidb
