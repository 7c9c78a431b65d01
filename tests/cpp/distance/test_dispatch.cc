// The choice is made once, from the environment; a wrong word is reported at each call until it is put right.
#include <cstdlib>

#include "check.h"
#include "common/error.h"
#include "distance/distance.h"

using namespace akidb;

TEST(the_environment_chooses_once) {
  setenv("AKIDB_SIMD_LEVEL", "fast", 1);
  for (int call = 0; call < 2; ++call) {
    CHECK(test::thrown_by<Error>([] { kernels(); }).kind() == ErrorKind::kInvalidInput);
  }
  setenv("AKIDB_SIMD_LEVEL", "scalar", 1);
  CHECK_EQ(std::string("scalar"), kernels().name);
  unsetenv("AKIDB_SIMD_LEVEL");
  CHECK_EQ(std::string("scalar"), kernels().name);
}

TEST(every_level_up_to_the_detected_one_has_kernels_of_its_own_name) {
  int found = 0;
  for (const SimdLevel level : kSimdLevels) {
    const Kernels* table = kernels_at(level);
    if (table == nullptr) continue;
    ++found;
    CHECK(table->level == level);
    CHECK_EQ(std::string(to_string(level)), table->name);
    CHECK(level <= detected_simd_level());
  }
  CHECK(kernels_at(SimdLevel::kScalar) != nullptr);
  CHECK(kernels_at(detected_simd_level()) != nullptr);
  CHECK(found >= (detected_simd_level() == SimdLevel::kScalar ? 1 : 2));
}
