// Which vector instructions this machine has, and which of them AkiDB uses.
#pragma once

#include <array>
#include <cstdint>

namespace akidb {

// Within one architecture a higher value contains the lower ones. kAvx2 has FMA, F16C and POPCNT beside it, kAvx512
// means the server set F, BW, DQ and VL together; kSve256 means SVE with registers of exactly 256 bits, beside i8mm:
// narrower ones gain nothing over NEON.
enum class SimdLevel : std::uint32_t {
  kScalar = 0,
  kNeon = 1,
  kNeonDotprod = 2,
  kNeonFhm = 3,
  kNeonBf16 = 4,
  kNeonI8mm = 5,
  kSve256 = 6,
  kAvx2 = 7,
  kAvx512 = 8,
  kAvx512Vnni = 9,
  kAvx512Vpopcntdq = 10,
};

// The levels of this architecture, ascending.
#if defined(__aarch64__)
inline constexpr std::array kSimdLevels = {SimdLevel::kScalar,  SimdLevel::kNeon,     SimdLevel::kNeonDotprod,
                                           SimdLevel::kNeonFhm, SimdLevel::kNeonBf16, SimdLevel::kNeonI8mm,
                                           SimdLevel::kSve256};
#elif defined(__x86_64__)
inline constexpr std::array kSimdLevels = {SimdLevel::kScalar, SimdLevel::kAvx2, SimdLevel::kAvx512,
                                           SimdLevel::kAvx512Vnni, SimdLevel::kAvx512Vpopcntdq};
#else
inline constexpr std::array kSimdLevels = {SimdLevel::kScalar};
#endif

const char* to_string(SimdLevel level);  // "scalar", "neon", "sve256", "avx2" …: the words of AKIDB_SIMD_LEVEL

// What there is, on an ARM machine, of that which levels need beyond the armv8-a base.
struct ArmFeatures {
  bool dotprod = false;
  bool fhm = false;
  bool bf16 = false;
  bool i8mm = false;
  bool sve256 = false;  // SVE with its own i8mm, in registers of 256 bits
};

// The best level that lacks nothing: each needs what those below it need as well. Apart from the questions themselves,
// since no emulated processor has FHM without bf16, as Apple's M1 has.
SimdLevel level_of(const ArmFeatures& features);

// Best level of this machine, asked of the processor and the operating system.
SimdLevel detected_simd_level();

// The level in use: the detected one, capped by `requested` (the value of AKIDB_SIMD_LEVEL; null or empty: no cap).
// Throws Error(kInvalidInput) when the word is unknown or belongs to another architecture: a typing error must not
// silently cost speed.
SimdLevel resolve_simd_level(const char* requested, SimdLevel detected);

}  // namespace akidb
