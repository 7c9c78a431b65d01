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
  using Loaded = Reg;
  static constexpr std::size_t kLanes = 16;
  static constexpr int kParts = 1;
  static constexpr int kTotalled = 1;
  static constexpr int kRowsAtOnce = 4;
  static constexpr int kLoadsAtOnce = 2;
  static constexpr int kTileQueries = 4;
  static constexpr int kPanelRegisters = 2;
  static constexpr int kPanelRows = 12;
  using Four = const float*;

  AKIDB_INLINE static Reg zero() { return _mm512_setzero_ps(); }
  AKIDB_INLINE static Reg load(const float* p) { return _mm512_loadu_ps(p); }
  // A masked lane is not read, so a vector may end at the end of a page.
  AKIDB_INLINE static Reg load_tail(const float* p, std::size_t n) {
    return _mm512_maskz_loadu_ps(static_cast<__mmask16>((1U << n) - 1U), p);
  }
  template <int>
  AKIDB_INLINE static Reg part(Reg r) {
    return r;
  }
  AKIDB_INLINE static Reg add(Reg a, Reg b) { return _mm512_add_ps(a, b); }
  AKIDB_INLINE static Reg sub(Reg a, Reg b) { return _mm512_sub_ps(a, b); }
  AKIDB_INLINE static Reg fma(Reg a, Reg b, Reg c) { return _mm512_fmadd_ps(a, b, c); }
  AKIDB_INLINE static void store(float* p, Reg r) { _mm512_storeu_ps(p, r); }
  AKIDB_INLINE static Four load_four(const float* p) { return p; }
  template <int kElement>
  AKIDB_INLINE static Reg fma_element(Reg a, Four b, Reg c) {
    return fma(a, _mm512_set1_ps(b[kElement]), c);
  }
  AKIDB_INLINE static __m256 eight(Reg r) {
    return _mm256_add_ps(_mm512_castps512_ps256(r), _mm512_extractf32x8_ps(r, 1));
  }
  AKIDB_INLINE static float total(const Reg* r) { return total_of_four(four(eight(*r))); }
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

// A shift makes floats of the even elements of a register, a mask of the odd ones: cheaper than unpacking them in
// order, which the last two sums of a row see to.
struct ZmmBFloat : Zmm {
  using Element = std::uint16_t;
  using Loaded = __m512i;
  static constexpr int kParts = 2;
  static constexpr int kTotalled = 2;
  static constexpr int kLoadsAtOnce = 1;
  static constexpr int kTileQueries = 2;

  AKIDB_INLINE static Loaded load(const Element* p) { return _mm512_loadu_si512(p); }
  AKIDB_INLINE static Loaded load_tail(const Element* p, std::size_t n) {
    return _mm512_maskz_loadu_epi16((1U << n) - 1U, p);
  }
  template <int kPart>
  AKIDB_INLINE static Reg part(Loaded x) {
    return _mm512_castsi512_ps(kPart == 0 ? _mm512_slli_epi32(x, 16)
                                          : _mm512_and_si512(x, _mm512_set1_epi32(static_cast<int>(0xFFFF0000U))));
  }
  AKIDB_INLINE static float total(const Reg* r) { return total_of_turns(eight(r[0]), eight(r[1])); }
};

}  // namespace
}  // namespace akidb
