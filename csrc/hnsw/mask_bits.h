// Masks as bits. By what every processor of its kind has, so that there is nothing to dispatch.
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

// Bit i of the result is set where byte i of these kWordBits is not 0.
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

// Bit i of the result is set where float i of these 16 is no more than `bound`.
inline std::uint32_t bits_of_floats_within(const float* floats, float bound) {
#if defined(__SSE2__)
  __m128i within[4];
  for (unsigned i = 0; i < 4; ++i)
    within[i] = _mm_castps_si128(_mm_cmple_ps(_mm_loadu_ps(floats + 4 * i), _mm_set1_ps(bound)));
  const __m128i low = _mm_packs_epi32(within[0], within[1]);
  const __m128i high = _mm_packs_epi32(within[2], within[3]);
  return static_cast<std::uint32_t>(_mm_movemask_epi8(_mm_packs_epi16(low, high)));
#elif defined(__ARM_NEON)
  uint16x8_t within[4];
  for (unsigned i = 0; i < 4; ++i)
    within[i] = vreinterpretq_u16_u32(vcleq_f32(vld1q_f32(floats + 4 * i), vdupq_n_f32(bound)));
  const uint8x16_t low = vreinterpretq_u8_u16(vuzp1q_u16(within[0], within[1]));
  const uint8x16_t high = vreinterpretq_u8_u16(vuzp1q_u16(within[2], within[3]));
  const uint8x16_t places = vreinterpretq_u8_u64(vdupq_n_u64(0x8040201008040201ULL));
  uint8x16_t sums = vandq_u8(vuzp1q_u8(low, high), places);
  for (unsigned i = 0; i < 3; ++i) sums = vpaddq_u8(sums, sums);
  return vgetq_lane_u16(vreinterpretq_u16_u8(sums), 0);
#else
  std::uint32_t bits = 0;
  for (unsigned i = 0; i < 16; ++i) bits |= static_cast<std::uint32_t>(floats[i] <= bound) << i;
  return bits;
#endif
}

}  // namespace akidb::hnsw
