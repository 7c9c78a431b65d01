// Registers of AVX2 as codes.h wants them.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "distance/kernels/inline.h"

namespace akidb {
namespace {  // NOLINT(misc-anonymous-namespace-in-header): as in floats.h

struct YmmCodes {
  static constexpr std::size_t kBytes = 32;
  static constexpr int kSumsOfDot4 = 1;
  using Codes = __m256i;
  using Query = __m256i;
  using Sum = __m256i;

  AKIDB_INLINE static Codes load(const std::uint8_t* p) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  }
  AKIDB_INLINE static Query load_query(const std::int8_t* p) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  }
  AKIDB_INLINE static Sum zero() { return _mm256_setzero_si256(); }
  AKIDB_INLINE static Sum add(Sum a, Sum b) { return _mm256_add_epi32(a, b); }
  AKIDB_INLINE static Codes low(Codes c) { return _mm256_and_si256(c, _mm256_set1_epi8(15)); }
  AKIDB_INLINE static Codes high(Codes c) { return low(_mm256_srli_epi16(c, 4)); }
  // vpmaddubsw saturates at 2 * 255 * 128 > 32767, so the products are made of 16 bits.
  AKIDB_INLINE static Sum dot8(Sum sum, Codes c, Query q) {
    const __m256i front = _mm256_madd_epi16(_mm256_cvtepu8_epi16(_mm256_castsi256_si128(c)),
                                            _mm256_cvtepi8_epi16(_mm256_castsi256_si128(q)));
    const __m256i back = _mm256_madd_epi16(_mm256_cvtepu8_epi16(_mm256_extracti128_si256(c, 1)),
                                           _mm256_cvtepi8_epi16(_mm256_extracti128_si256(q, 1)));
    return _mm256_add_epi32(sum, _mm256_add_epi32(front, back));
  }
  // Four products of at most 15 * 128 fit 16 bits.
  AKIDB_INLINE static void dot4(Sum& sum, Sum&, Codes c, Query q_low, Query q_high) {
    const __m256i pairs = _mm256_add_epi16(_mm256_maddubs_epi16(low(c), q_low), _mm256_maddubs_epi16(high(c), q_high));
    sum = _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
  }
  AKIDB_INLINE static std::int32_t total(Sum s) {
    const __m128i four = _mm_add_epi32(_mm256_castsi256_si128(s), _mm256_extracti128_si256(s, 1));
    const __m128i two = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4E));
    return _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32(two, 0xB1)));
  }
  AKIDB_INLINE static std::int32_t missing8(const std::int8_t*, std::size_t) { return 0; }

  static constexpr int kPanelRows = 16;
  static constexpr int kPanelQueries = 4;
  AKIDB_INLINE static std::int32_t missing_in_panel(const std::int8_t*, std::size_t) { return 0; }
  // Of each four codes the even and the odd ones, as 16 bits: products of bytes saturate, as above.
  struct PanelRows {
    __m256i even[2], odd[2];
  };
  using Values = const std::int8_t*;
  struct PanelSum {
    __m256i of[2];
  };
  AKIDB_INLINE static PanelRows load_rows(const std::uint8_t* p) {
    PanelRows out;
    for (int half = 0; half < 2; ++half) {
      const Codes codes = load(p + half * 32);
      out.even[half] = _mm256_and_si256(codes, _mm256_set1_epi16(0xFF));
      out.odd[half] = _mm256_srli_epi16(codes, 8);
    }
    return out;
  }
  AKIDB_INLINE static Values load_values(const std::int8_t* p) { return p; }
  AKIDB_INLINE static PanelSum no_sum() { return {{zero(), zero()}}; }
  template <int kFour>
  AKIDB_INLINE static void add_rows(PanelSum& sum, const PanelRows& rows, Values values) {
    const __m256i four = _mm256_set1_epi32(four_of(values + kFour * 4));
    const __m256i even = _mm256_srai_epi16(_mm256_slli_epi16(four, 8), 8);
    const __m256i odd = _mm256_srai_epi16(four, 8);
    for (int half = 0; half < 2; ++half) {
      sum.of[half] = _mm256_add_epi32(sum.of[half], _mm256_add_epi32(_mm256_madd_epi16(rows.even[half], even),
                                                                     _mm256_madd_epi16(rows.odd[half], odd)));
    }
  }
  AKIDB_INLINE static void store_sum(std::int32_t* out, PanelSum sum, std::int32_t /*more*/) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), sum.of[0]);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + 8), sum.of[1]);
  }
  AKIDB_INLINE static std::int32_t four_of(const std::int8_t* p) {
    std::int32_t four;
    __builtin_memcpy(&four, p, sizeof four);
    return four;
  }
};

}  // namespace
}  // namespace akidb
