// Masks of one byte per row as bits.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#if defined(__SSE2__)
#include <emmintrin.h>
#elif defined(__ARM_NEON)
#include <arm_neon.h>
#endif

namespace akidb::hnsw {

constexpr std::size_t kWordBits = 64;

// Bit i of the result is set where byte i of these kWordBits is not 0. By what every processor of its kind has, so that
// there is nothing to dispatch: eight bytes at a time by a multiplication took three times as long.
inline std::uint64_t bits_of_bytes(const std::uint8_t* bytes) {
#if defined(__SSE2__)
  std::uint64_t zeros = 0;
  for (unsigned i = 0; i < 4; ++i) {
    const __m128i part = _mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes + 16 * i));
    const int mask = _mm_movemask_epi8(_mm_cmpeq_epi8(part, _mm_setzero_si128()));
    zeros |= static_cast<std::uint64_t>(static_cast<std::uint32_t>(mask)) << 16 * i;
  }
  return ~zeros;
#elif defined(__ARM_NEON)
  const uint8x16_t places = vreinterpretq_u8_u64(vdupq_n_u64(0x8040201008040201ULL));
  uint8x16_t set[4];
  for (unsigned i = 0; i < 4; ++i) {
    const uint8x16_t part = vld1q_u8(bytes + 16 * i);
    set[i] = vandq_u8(vtstq_u8(part, part), places);
  }
  const uint8x16_t sums = vpaddq_u8(vpaddq_u8(set[0], set[1]), vpaddq_u8(set[2], set[3]));
  return vgetq_lane_u64(vreinterpretq_u64_u8(vpaddq_u8(sums, sums)), 0);
#else
  constexpr std::uint64_t kLow = 0x7F7F7F7F7F7F7F7FULL;
  std::uint64_t bits = 0;
  for (unsigned i = 0; i < 8; ++i) {
    std::uint64_t word = 0;
    for (unsigned j = 0; j < 8; ++j) word |= std::uint64_t{bytes[8 * i + j]} << 8 * j;
    const std::uint64_t ones = ((((word & kLow) + kLow) | word) & ~kLow) >> 7;
    bits |= (ones * 0x0102040810204080ULL >> 56) << 8 * i;
  }
  return bits;
#endif
}

}  // namespace akidb::hnsw
