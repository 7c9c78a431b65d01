// Masks of one byte per row as bits.
#pragma once

#include <cstddef>
#include <cstdint>

#if defined(__SSE2__)
#include <emmintrin.h>
#elif defined(__ARM_NEON)
#include <arm_neon.h>
#endif

namespace akidb::hnsw {

constexpr std::size_t kWordBits = 64;

// Bit i of the result is set where byte i of these kWordBits is not 0. By what every processor of its kind has, so that
// there is nothing to dispatch.
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
  std::uint64_t bits = 0;
  for (unsigned i = 0; i < kWordBits; ++i) bits |= std::uint64_t{bytes[i] != 0} << i;
  return bits;
#endif
}

}  // namespace akidb::hnsw
