// Registers of AVX-512 with VNNI as bytes.h and codes.h want them. vpdpbusd multiplies unsigned by signed bytes and
// adds four products to a sum of 32 bits without saturating. Codes in registers of 256 bits: Zen 4 executes wider ones
// in two halves, and rows of codes are a few of the narrow ones.
#pragma once

#include "distance/kernels/ymm_codes.h"
#include "distance/kernels/zmm_bytes.h"

namespace akidb {
namespace {  // NOLINT(misc-anonymous-namespace-in-header): as in floats.h

struct VnniCodes : YmmCodes {
  static constexpr int kSumsOfDot4 = 2;
  AKIDB_INLINE static Sum dot8(Sum sum, Codes c, Query q) { return _mm256_dpbusd_epi32(sum, c, q); }
  AKIDB_INLINE static void dot4(Sum& sum, Sum& other, Codes c, Query q_low, Query q_high) {
    sum = _mm256_dpbusd_epi32(sum, low(c), q_low);
    other = _mm256_dpbusd_epi32(other, high(c), q_high);
  }

  static constexpr int kPanelQueries = 8;
  using PanelRows = __m512i;
  using PanelSum = __m512i;
  AKIDB_INLINE static PanelRows load_rows(const std::uint8_t* p) { return _mm512_loadu_si512(p); }
  AKIDB_INLINE static PanelSum no_sum() { return _mm512_setzero_si512(); }
  template <int kFour>
  AKIDB_INLINE static void add_rows(PanelSum& sum, PanelRows rows, Values values) {
    sum = _mm512_dpbusd_epi32(sum, rows, _mm512_set1_epi32(four_of(values + kFour * 4)));
  }
  AKIDB_INLINE static void store_sum(std::int32_t* out, PanelSum sum, std::int32_t /*more*/) {
    _mm512_storeu_si512(out, sum);
  }
};

template <class Byte>
struct SquaredDifferences : Byte {
  using Value = std::uint32_t;
  static constexpr int kSumsOfOne = 4;  // a step of a chain takes five cycles
  AKIDB_INLINE static __m512i step(__m512i sum, __m512i a, __m512i b) {
    const __m512i difference = _mm512_sub_epi16(a, b);
    return _mm512_dpwssd_epi32(sum, difference, difference);
  }
};

// Both factors have the same sign bit or none, vpdpbusd wants one of each: the row's bytes are moved by 128, and that
// times the query's sum is taken off again.
struct VnniBytes : WholeBytes {
  static constexpr std::size_t kBytes = 64;
  static constexpr int kSumsOfOne = 2;
  static constexpr int kSumsOfFour = 1;
  static constexpr int kTileQueries = 4;
  using Reg = __m512i;
  using Sum = __m512i;

  AKIDB_INLINE static Reg load(const std::uint8_t* p) { return _mm512_loadu_si512(p); }
  AKIDB_INLINE static Reg load_tail(const std::uint8_t* p, std::size_t n) {
    return _mm512_maskz_loadu_epi8((std::uint64_t{1} << n) - 1U, p);
  }
  AKIDB_INLINE static Reg moved(Reg bytes) { return _mm512_xor_si512(bytes, _mm512_set1_epi8(-128)); }
  AKIDB_INLINE static Sum zero() { return _mm512_setzero_si512(); }
  AKIDB_INLINE static Sum add(Sum a, Sum b) { return _mm512_add_epi32(a, b); }
  AKIDB_INLINE static std::uint32_t total(Sum s) { return total_modulo(s); }
};

struct Int8Products : VnniBytes {
  using Value = std::int32_t;
  static constexpr std::uint32_t kOffset = 128;
  AKIDB_INLINE static Sum step(Sum sum, Reg query, Reg row) { return _mm512_dpbusd_epi32(sum, moved(row), query); }
  AKIDB_INLINE static Sum add_up(Sum sum, Reg query) { return _mm512_dpbusd_epi32(sum, _mm512_set1_epi8(1), query); }
};

struct Uint8Products : VnniBytes {
  using Value = std::uint32_t;
  static constexpr std::uint32_t kOffset = 0U - 128U;
  AKIDB_INLINE static Sum step(Sum sum, Reg query, Reg row) { return _mm512_dpbusd_epi32(sum, query, moved(row)); }
  AKIDB_INLINE static Sum add_up(Sum sum, Reg query) { return _mm512_dpbusd_epi32(sum, query, _mm512_set1_epi8(1)); }
};

}  // namespace
}  // namespace akidb
