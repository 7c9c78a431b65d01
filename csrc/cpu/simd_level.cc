#include "cpu/simd_level.h"

#include <algorithm>
#include <array>
#include <string>
#include <string_view>

#include "common/error.h"

namespace akidb {

namespace {

#if defined(__aarch64__)
constexpr std::array kLevels = {SimdLevel::kScalar, SimdLevel::kNeon};
#elif defined(__x86_64__)
constexpr std::array kLevels = {SimdLevel::kScalar, SimdLevel::kAvx2, SimdLevel::kAvx512};
#else
constexpr std::array kLevels = {SimdLevel::kScalar};
#endif

std::string words_of_this_architecture() {
  std::string words;
  for (const SimdLevel level : kLevels) words += (words.empty() ? "" : ", ") + std::string(to_string(level));
  return words;
}

}  // namespace

const char* to_string(SimdLevel level) {
  switch (level) {
    case SimdLevel::kScalar:
      return "scalar";
    case SimdLevel::kNeon:
      return "neon";
    case SimdLevel::kAvx2:
      return "avx2";
    case SimdLevel::kAvx512:
      return "avx512";
  }
  return "unknown";
}

SimdLevel detected_simd_level() {
#if defined(__aarch64__)
  return SimdLevel::kNeon;  // part of the armv8-a base
#elif defined(__x86_64__)
  // The builtins look at XGETBV too: a register set which the operating system does not save counts as absent.
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  return avx512 ? SimdLevel::kAvx512 : (avx2 ? SimdLevel::kAvx2 : SimdLevel::kScalar);
#else
  return SimdLevel::kScalar;
#endif
}

SimdLevel resolve_simd_level(const char* requested, SimdLevel detected) {
  const std::string_view word = requested == nullptr ? std::string_view() : std::string_view(requested);
  if (word.empty()) return detected;
  for (const SimdLevel level : kLevels) {
    if (word == to_string(level)) return std::min(level, detected);
  }
  throw_invalid("AKIDB_SIMD_LEVEL is \"" + std::string(word) + "\"; expected one of " + words_of_this_architecture() +
                ", or unset for the best this machine has");
}

}  // namespace akidb
