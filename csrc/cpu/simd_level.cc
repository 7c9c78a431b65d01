#include "cpu/simd_level.h"

#include <algorithm>
#include <string>
#include <string_view>

#include "common/error.h"

#if defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#elif defined(__aarch64__) && defined(__APPLE__)
#include <sys/sysctl.h>
#endif

namespace akidb {

namespace {

std::string words_of_this_architecture() {
  std::string words;
  for (const SimdLevel level : kSimdLevels) words += (words.empty() ? "" : ", ") + std::string(to_string(level));
  return words;
}

#if defined(__aarch64__)
bool has_dotprod() {
#if defined(__linux__)
  constexpr unsigned long kAsimdDp = 1UL << 20;  // HWCAP_ASIMDDP, which older headers lack
  return (getauxval(AT_HWCAP) & kAsimdDp) != 0;
#elif defined(__APPLE__)
  int value = 0;
  std::size_t size = sizeof value;
  return sysctlbyname("hw.optional.arm.FEAT_DotProd", &value, &size, nullptr, 0) == 0 && value != 0;
#else
  return false;
#endif
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
    case SimdLevel::kAvx2:
      return "avx2";
    case SimdLevel::kAvx512:
      return "avx512";
    case SimdLevel::kAvx512Vnni:
      return "avx512_vnni";
  }
  return "unknown";
}

SimdLevel detected_simd_level() {
#if defined(__aarch64__)
  return has_dotprod() ? SimdLevel::kNeonDotprod : SimdLevel::kNeon;  // NEON is part of the armv8-a base
#elif defined(__x86_64__)
  // The builtins look at XGETBV too: a register set which the operating system does not save counts as absent.
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  if (avx512) return __builtin_cpu_supports("avx512vnni") ? SimdLevel::kAvx512Vnni : SimdLevel::kAvx512;
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
