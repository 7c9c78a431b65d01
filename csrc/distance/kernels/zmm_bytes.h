// Registers of AVX-512 as bytes.h wants them: bytes widened to 16 bits.
#pragma once

#include <immintrin.h>

#include "distance/kernels/bytes.h"

namespace akidb {
namespace {  // NOLINT(misc-anonymous-namespace-in-header): as in floats.h

// Modulo 2^32. Not _mm512_reduce_add_epi32, which adds the last two as int: a sum may need the highest bit.
AKIDB_INLINE std::uint32_t total_modulo(__m512i sums) {
  const __m256i eight = _mm256_add_epi32(_mm512_castsi512_si256(sums), _mm512_extracti64x4_epi64(sums, 1));
  const __m128i four = _mm_add_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));
  const __m128i two = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4E));
  return static_cast<std::uint32_t>(_mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32(two, 0xB1))));
}

struct ZmmWords : WholeBytes {
  static constexpr std::size_t kBytes = 32;
  static constexpr int kSumsOfOne = 1;  // the chain is an addition of one cycle
  static constexpr int kSumsOfFour = 1;
  static constexpr int kTileQueries = 4;
  using Reg = __m512i;
  using Sum = __m512i;

  AKIDB_INLINE static __m256i some_bytes(const std::uint8_t* p, std::size_t n) {
    return _mm256_maskz_loadu_epi8((1U << n) - 1U, p);
  }
  AKIDB_INLINE static __m256i all_bytes(const std::uint8_t* p) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  }
  AKIDB_INLINE static Sum zero() { return _mm512_setzero_si512(); }
  AKIDB_INLINE static Sum add(Sum a, Sum b) { return _mm512_add_epi32(a, b); }
  AKIDB_INLINE static std::uint32_t total(Sum s) { return total_modulo(s); }
};

struct ZmmInt8 : ZmmWords {
  AKIDB_INLINE static Reg load(const std::uint8_t* p) { return _mm512_cvtepi8_epi16(all_bytes(p)); }
  AKIDB_INLINE static Reg load_tail(const std::uint8_t* p, std::size_t n) {
    return _mm512_cvtepi8_epi16(some_bytes(p, n));
  }
};

struct ZmmUint8 : ZmmWords {
  AKIDB_INLINE static Reg load(const std::uint8_t* p) { return _mm512_cvtepu8_epi16(all_bytes(p)); }
  AKIDB_INLINE static Reg load_tail(const std::uint8_t* p, std::size_t n) {
    return _mm512_cvtepu8_epi16(some_bytes(p, n));
  }
};

}  // namespace
}  // namespace akidb
