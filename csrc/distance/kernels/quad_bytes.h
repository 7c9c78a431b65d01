// Registers of NEON as bytes.h wants them.
#pragma once

#include <arm_neon.h>

#include "distance/kernels/bytes.h"

namespace akidb {
namespace {  // NOLINT(misc-anonymous-namespace-in-header): as in floats.h

template <class Shape, int kSumsOfOne_>
struct QuadUnsigned : Shape {
  static constexpr std::size_t kBytes = 16;
  static constexpr int kSumsOfOne = kSumsOfOne_;
  static constexpr int kSumsOfFour = 2;
  static constexpr int kTileQueries = 4;
  using Value = std::uint32_t;
  using Reg = uint8x16_t;
  using Sum = uint32x4_t;

  AKIDB_INLINE static Reg load(const std::uint8_t* p) { return vld1q_u8(p); }
  AKIDB_INLINE static uint8x16x4_t load_four(const std::uint8_t* p) { return vld1q_u8_x4(p); }
  AKIDB_INLINE static Reg load_tail(const std::uint8_t* p, std::size_t n) { return vld1q_u8(Padded<16>(p, n).bytes); }
  AKIDB_INLINE static Sum zero() { return vdupq_n_u32(0); }
  AKIDB_INLINE static Sum add(Sum a, Sum b) { return vaddq_u32(a, b); }
  AKIDB_INLINE static std::uint32_t total(Sum s) { return vaddvq_u32(s); }
};

template <int kSumsOfOne_>
struct QuadSigned : WholeBytes {
  static constexpr std::size_t kBytes = 16;
  static constexpr int kSumsOfOne = kSumsOfOne_;
  static constexpr int kSumsOfFour = 2;
  static constexpr int kTileQueries = 4;
  using Value = std::int32_t;
  using Reg = int8x16_t;
  using Sum = int32x4_t;

  AKIDB_INLINE static Reg load(const std::uint8_t* p) { return vreinterpretq_s8_u8(vld1q_u8(p)); }
  AKIDB_INLINE static int8x16x4_t load_four(const std::uint8_t* p) {
    return vld1q_s8_x4(reinterpret_cast<const std::int8_t*>(p));
  }
  AKIDB_INLINE static Reg load_tail(const std::uint8_t* p, std::size_t n) {
    return vreinterpretq_s8_u8(vld1q_u8(Padded<16>(p, n).bytes));
  }
  AKIDB_INLINE static Sum zero() { return vdupq_n_s32(0); }
  AKIDB_INLINE static Sum add(Sum a, Sum b) { return vaddq_s32(a, b); }
  AKIDB_INLINE static std::uint32_t total(Sum s) { return static_cast<std::uint32_t>(vaddvq_s32(s)); }
};

// The distance of two signed bytes takes all eight bits of an unsigned one.
AKIDB_INLINE uint8x16_t distances_of_int8(uint8x16_t a, uint8x16_t b) {
  return vreinterpretq_u8_s8(vabdq_s8(vreinterpretq_s8_u8(a), vreinterpretq_s8_u8(b)));
}

AKIDB_INLINE uint8x16_t differing_bits(uint8x16_t a, uint8x16_t b) { return vcntq_u8(veorq_u8(a, b)); }

}  // namespace
}  // namespace akidb
