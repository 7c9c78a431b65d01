// AKIDB_SIMD_LEVEL lowers the level, never raises it, and a wrong word is refused by name.
#include <cstdlib>

#include "check.h"
#include "common/error.h"
#include "cpu/simd_level.h"

using akidb::Error;
using akidb::ErrorKind;
using akidb::level_of;
using akidb::resolve_simd_level;
using akidb::SimdLevel;

namespace {

#if defined(__aarch64__)
constexpr SimdLevel kHigh = SimdLevel::kNeon;
constexpr const char* kHighWord = "neon";
constexpr const char* kForeignWord = "avx2";
#else
constexpr SimdLevel kHigh = SimdLevel::kAvx2;
constexpr const char* kHighWord = "avx2";
constexpr const char* kForeignWord = "neon";
#endif

}  // namespace

// scripts/test-arm.sh names what the processor it emulates has.
TEST(the_detected_level_is_that_of_the_processor) {
  if (const char* expected = std::getenv("AKIDB_EXPECTED_SIMD_LEVEL")) {
    CHECK_EQ(std::string(expected), to_string(akidb::detected_simd_level()));
  }
}

TEST(a_level_needs_what_those_below_it_need) {
  CHECK(level_of({.dotprod = true, .fhm = true}) == SimdLevel::kNeonFhm);  // Apple M1
  CHECK(level_of({.dotprod = true, .fhm = true, .bf16 = true}) == SimdLevel::kNeonBf16);
  constexpr SimdLevel kAscending[] = {SimdLevel::kNeon,     SimdLevel::kNeonDotprod, SimdLevel::kNeonFhm,
                                      SimdLevel::kNeonBf16, SimdLevel::kNeonI8mm,    SimdLevel::kSve256};
  for (unsigned bits = 0; bits < 32; ++bits) {
    const auto has = [&](unsigned bit) { return (bits >> bit & 1U) != 0; };
    unsigned height = 0;
    while (height < 5 && has(height)) ++height;
    CHECK(level_of({has(0), has(1), has(2), has(3), has(4)}) == kAscending[height]);
  }
}

TEST(no_word_means_the_detected_level) {
  CHECK(resolve_simd_level(nullptr, kHigh) == kHigh);
  CHECK(resolve_simd_level("", kHigh) == kHigh);
}

TEST(a_word_caps_the_level) {
  CHECK(resolve_simd_level("scalar", kHigh) == SimdLevel::kScalar);
  CHECK(resolve_simd_level(kHighWord, kHigh) == kHigh);
}

TEST(a_level_the_machine_lacks_falls_back_to_what_it_has) {
  CHECK(resolve_simd_level(kHighWord, SimdLevel::kScalar) == SimdLevel::kScalar);
}

TEST(unknown_and_foreign_words_are_refused_by_name) {
  for (const char* word : {"fast", "AVX2 ", "avx", kForeignWord}) {
    const Error error = akidb::test::thrown_by<Error>([&] { resolve_simd_level(word, kHigh); });
    CHECK(error.kind() == ErrorKind::kInvalidInput);
    const std::string message = error.what();
    CHECK(message.find("AKIDB_SIMD_LEVEL is \"" + std::string(word) + "\"") != std::string::npos);
    CHECK(message.find("scalar, " + std::string(kHighWord)) != std::string::npos);
  }
}
