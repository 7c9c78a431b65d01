#include "cpu/simd_level.h"

#include <algorithm>
#include <string>
#include <string_view>

#include "common/error.h"

#if defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#include <sys/prctl.h>
#elif defined(__aarch64__) && defined(__APPLE__)
#include <sys/sysctl.h>
#elif defined(__x86_64__)
#include <cpuid.h>
#endif

namespace akidb {

namespace {

std::string words_of_this_architecture() {
  std::string words;
  for (const SimdLevel level : kSimdLevels) words += (words.empty() ? "" : ", ") + std::string(to_string(level));
  return words;
}

// What counts is what the operating system says, not the name of the processor: it knows which of several kinds of core
// has what, and whether it saves the registers. Bits are those of Linux's arch/arm64/include/uapi/asm/hwcap.h; older
// headers lack names for some.
#if defined(__aarch64__) && defined(__linux__)
bool has(unsigned long type, unsigned bit) { return (getauxval(type) >> bit & 1) != 0; }
bool has_sve256() {
  constexpr int kGetVectorLength = 51;  // PR_SVE_GET_VL
  constexpr int kLengthMask = 0xFFFF;
  if (!has(AT_HWCAP, 22) || !has(AT_HWCAP2, 9)) return false;  // SVE, SVEI8MM
  const int length = prctl(kGetVectorLength, 0, 0, 0, 0);
  return length > 0 && (length & kLengthMask) == 32;
}
ArmFeatures arm_features() {
  return {.dotprod = has(AT_HWCAP, 20),
          .fhm = has(AT_HWCAP, 23),
          .bf16 = has(AT_HWCAP2, 14),
          .i8mm = has(AT_HWCAP2, 13),
          .sve256 = has_sve256()};
}
#elif defined(__aarch64__) && defined(__APPLE__)
bool has(const char* feature) {
  int value = 0;
  std::size_t size = sizeof value;
  return sysctlbyname(feature, &value, &size, nullptr, 0) == 0 && value != 0;
}
ArmFeatures arm_features() {
  return {.dotprod = has("hw.optional.arm.FEAT_DotProd"),
          .fhm = has("hw.optional.arm.FEAT_FHM"),
          .bf16 = has("hw.optional.arm.FEAT_BF16"),
          .i8mm = has("hw.optional.arm.FEAT_I8MM"),
          .sve256 = false};
}
#elif defined(__aarch64__)
ArmFeatures arm_features() { return {}; }
#elif defined(__x86_64__)
// __builtin_cpu_supports knows the word "f16c" from GCC 11 and Clang 18 on only.
bool has_f16c() {
  unsigned a = 0;
  unsigned b = 0;
  unsigned c = 0;
  unsigned d = 0;
  return __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & bit_F16C) != 0;
}
#endif

}  // namespace

const char* to_string(SimdLevel level) {
  switch (level) {
    case SimdLevel::kScalar:
      return "scalar";
    case SimdLevel::kNeon:
      return "neon";
    case SimdLevel::kNeonDotprod:
      return "neon_dotprod";
    case SimdLevel::kNeonFhm:
      return "neon_fhm";
    case SimdLevel::kNeonBf16:
      return "neon_bf16";
    case SimdLevel::kNeonI8mm:
      return "neon_i8mm";
    case SimdLevel::kSve256:
      return "sve256";
    case SimdLevel::kAvx2:
      return "avx2";
    case SimdLevel::kAvx512:
      return "avx512";
    case SimdLevel::kAvx512Vnni:
      return "avx512_vnni";
    case SimdLevel::kAvx512Vpopcntdq:
      return "avx512_vpopcntdq";
  }
  return "unknown";
}

SimdLevel level_of(const ArmFeatures& features) {
  if (!features.dotprod) return SimdLevel::kNeon;  // part of the armv8-a base
  if (!features.fhm) return SimdLevel::kNeonDotprod;
  if (!features.bf16) return SimdLevel::kNeonFhm;
  if (!features.i8mm) return SimdLevel::kNeonBf16;
  return features.sve256 ? SimdLevel::kSve256 : SimdLevel::kNeonI8mm;
}

SimdLevel detected_simd_level() {
#if defined(__aarch64__)
  return level_of(arm_features());
#elif defined(__x86_64__)
  // The builtins look at XGETBV too: a register set which the operating system does not save counts as absent.
  __builtin_cpu_init();
  static const bool f16c = has_f16c();  // asked once: under a hypervisor the instruction takes microseconds
  const bool avx2 =
      __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("popcnt") && f16c;
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  const bool vnni = avx512 && __builtin_cpu_supports("avx512vnni");
  if (vnni) {
    return __builtin_cpu_supports("avx512vpopcntdq") ? SimdLevel::kAvx512Vpopcntdq : SimdLevel::kAvx512Vnni;
  }
  if (avx512) return SimdLevel::kAvx512;
  return avx2 ? SimdLevel::kAvx2 : SimdLevel::kScalar;
#else
  return SimdLevel::kScalar;
#endif
}

SimdLevel resolve_simd_level(const char* requested, SimdLevel detected) {
  const std::string_view word = requested == nullptr ? std::string_view() : std::string_view(requested);
  if (word.empty()) return detected;
  for (const SimdLevel level : kSimdLevels) {
    if (word == to_string(level)) return std::min(level, detected);
  }
  throw_invalid("AKIDB_SIMD_LEVEL is \"" + std::string(word) + "\"; expected one of " + words_of_this_architecture() +
                ", or unset for the best this machine has");
}

}  // namespace akidb
