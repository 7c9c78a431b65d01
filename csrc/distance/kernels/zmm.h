// Registers of AVX-512 as f32.h wants them. Two sums of each of four rows are eight chains, what two FMA pipes need,
// and one load of the query serves four rows.
#pragma once

#include <immintrin.h>

#include <cstddef>

#include "distance/kernels/inline.h"
#include "distance/kernels/xmm.h"

namespace akidb {
namespace {  // NOLINT(misc-anonymous-namespace-in-header): as in f32.h

struct Zmm {
  using Reg = __m512;
  static constexpr std::size_t kLanes = 16;
  static constexpr int kRowsAtOnce = 4;

  AKIDB_INLINE static Reg zero() { return _mm512_setzero_ps(); }
  AKIDB_INLINE static Reg load(const float* p) { return _mm512_loadu_ps(p); }
  // A masked lane is not read, so a vector may end at the end of a page.
  AKIDB_INLINE static Reg load_tail(const float* p, std::size_t n) {
    return _mm512_maskz_loadu_ps(static_cast<__mmask16>((1U << n) - 1U), p);
  }
  AKIDB_INLINE static Reg add(Reg a, Reg b) { return _mm512_add_ps(a, b); }
  AKIDB_INLINE static Reg sub(Reg a, Reg b) { return _mm512_sub_ps(a, b); }
  AKIDB_INLINE static Reg fma(Reg a, Reg b, Reg c) { return _mm512_fmadd_ps(a, b, c); }
  AKIDB_INLINE static float total(const Reg* r) {
    const __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(*r), _mm512_extractf32x8_ps(*r, 1));
    return total_of_four(_mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1)));
  }
};

}  // namespace
}  // namespace akidb
