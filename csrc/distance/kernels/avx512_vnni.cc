// AVX-512 with VNNI: Ice Lake, Zen 4 and later. vpdpbusd multiplies unsigned by signed bytes and adds four products to
// a sum of 32 bits without saturating. Registers of 256 bits: Zen 4 executes wider ones in two halves, and rows of
// codes are a few of the narrow ones.
#include "distance/kernels/table.h"
#include "distance/kernels/ymm_codes.h"
#include "distance/kernels/zmm.h"

namespace akidb {
namespace {

struct VnniCodes : YmmCodes {
  AKIDB_INLINE static Sum dot8(Sum sum, Codes c, Query q) { return _mm256_dpbusd_epi32(sum, c, q); }
  AKIDB_INLINE static Sum dot4(Sum sum, Codes c, Query q_low, Query q_high) {
    return _mm256_dpbusd_epi32(_mm256_dpbusd_epi32(sum, low(c), q_low), high(c), q_high);
  }
};

}  // namespace

namespace avx512_vnni {
constexpr Kernels kKernels = table<Zmm, VnniCodes>(SimdLevel::kAvx512Vnni, "avx512_vnni");
}
}  // namespace akidb
