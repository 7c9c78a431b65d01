// Registers of AVX-512 as floats.h wants them. Two sums of each of four rows are eight chains, what two FMA pipes need,
// and one load of the query serves four rows.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "distance/kernels/inline.h"
#include "distance/kernels/xmm.h"

namespace akidb {
namespace {  // NOLINT(misc-anonymous-namespace-in-header): as in floats.h

struct Zmm {
  using Element = float;
  using Reg = __m512;
  static constexpr std::size_t kLanes = 16;
  static constexpr int kRowsAtOnce = 4;
  static constexpr int kTileQueries = 4;

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

struct ZmmHalf : Zmm {
  using Element = std::uint16_t;
  AKIDB_INLINE static Reg load(const Element* p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  }
  AKIDB_INLINE static Reg load_tail(const Element* p, std::size_t n) {
    return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(static_cast<__mmask16>((1U << n) - 1U), p));
  }
};

struct ZmmBFloat : Zmm {
  using Element = std::uint16_t;
  AKIDB_INLINE static Reg widened(__m256i bits) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
  }
  AKIDB_INLINE static Reg load(const Element* p) {
    return widened(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  }
  AKIDB_INLINE static Reg load_tail(const Element* p, std::size_t n) {
    return widened(_mm256_maskz_loadu_epi16(static_cast<__mmask16>((1U << n) - 1U), p));
  }
};

}  // namespace
}  // namespace akidb
