// AVX2 with FMA: Haswell, Zen and later. Two loads per cycle feed one FMA per cycle of latency 4, so the four sums
// of f32.h keep a single row busy; sixteen registers hold those of two rows.
#include <immintrin.h>

#include "distance/kernels/table.h"
#include "distance/kernels/xmm.h"
#include "distance/kernels/ymm_codes.h"

namespace akidb {
namespace {

alignas(32) constexpr int kTailMask[16] = {-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0};

struct Ymm {
  using Reg = __m256;
  static constexpr std::size_t kLanes = 8;
  static constexpr int kRowsAtOnce = 2;

  AKIDB_INLINE static Reg zero() { return _mm256_setzero_ps(); }
  AKIDB_INLINE static Reg load(const float* p) { return _mm256_loadu_ps(p); }
  // A masked lane is not read, so a vector may end at the end of a page.
  AKIDB_INLINE static Reg load_tail(const float* p, std::size_t n) {
    return _mm256_maskload_ps(p, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(kTailMask + 8 - n)));
  }
  AKIDB_INLINE static Reg add(Reg a, Reg b) { return _mm256_add_ps(a, b); }
  AKIDB_INLINE static Reg sub(Reg a, Reg b) { return _mm256_sub_ps(a, b); }
  AKIDB_INLINE static Reg fma(Reg a, Reg b, Reg c) { return _mm256_fmadd_ps(a, b, c); }
  AKIDB_INLINE static float total(const Reg* r) {
    return total_of_four(_mm_add_ps(_mm256_castps256_ps128(*r), _mm256_extractf128_ps(*r, 1)));
  }
};

}  // namespace

namespace avx2 {
constexpr Kernels kKernels = table<Ymm, YmmCodes>(SimdLevel::kAvx2, "avx2");
}
}  // namespace akidb
