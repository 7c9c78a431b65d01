// Registers of AVX-512 as bytes.h wants them: bytes widened to 16 bits.
#pragma once

#include <immintrin.h>

#include "distance/kernels/bytes.h"

namespace akidb {
namespace {  // NOLINT(misc-anonymous-namespace-in-header): as in floats.h

struct ZmmWords : WholeBytes {
  static constexpr std::size_t kBytes = 32;
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
  AKIDB_INLINE static std::uint32_t total(Sum s) { return static_cast<std::uint32_t>(_mm512_reduce_add_epi32(s)); }
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
