// Emulation proves that no level is taken for one the processor lacks only if the wrong one dies. So on a processor of
// the armv8-a base each higher level is made to run, in a process of its own, and must be killed for it.
#include <csignal>
#include <cstdint>

#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "distance/distance.h"
#include "distance/kernels/levels.h"

using namespace akidb;

namespace {

// The signal that ended a process which called the kernels of a level, or 0.
int signal_of(const Kernels& level) {
  const pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    const std::uint8_t bytes[256] = {};
    const auto* query = reinterpret_cast<const std::int8_t*>(bytes);
    const void* const rows[4] = {bytes, bytes, bytes, bytes};
    float out[4];
    level.dot(ElementType::kBFloat16).batch4(bytes, rows, 64, out);
    level.dot(ElementType::kFloat16).batch4(bytes, rows, 64, out);
    level.dot(ElementType::kInt8).batch4(bytes, rows, 64, out);
    level.dot_u8(query, bytes, 64);
    _exit(0);
  }
  int status = 0;
  CHECK(waitpid(child, &status, 0) == child);
  return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

}  // namespace

TEST(a_level_that_the_processor_has_runs) { CHECK_EQ(0, signal_of(*kernels_at(detected_simd_level()))); }

#if defined(__aarch64__) && defined(__linux__)
TEST(a_level_that_the_processor_lacks_is_killed) {
  if (detected_simd_level() != SimdLevel::kNeon) return;  // may lack less than the next level needs in all
  for (const Kernels* level :
       {&neon_dotprod::kKernels, &neon_fhm::kKernels, &neon_bf16::kKernels, &neon_i8mm::kKernels, &sve256::kKernels}) {
    CHECK_EQ(SIGILL, signal_of(*level));
  }
}
#endif
