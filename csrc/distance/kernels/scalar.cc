// Plain C++, for every machine, and the reference the other levels are tested against. A "register" is one float and
// sixteen sums are independent of each other, which leaves the compiler free to use the base vector set of the
// architecture (SSE2) for them.
#include "distance/kernels/f32.h"

namespace akidb {
namespace {

struct Float {
  using Reg = float;
  static constexpr std::size_t kLanes = 1;
  static constexpr int kSums = 16;
  static constexpr int kRowsAtOnce = 1;

  AKIDB_INLINE static Reg zero() { return 0.0F; }
  AKIDB_INLINE static Reg load(const float* p) { return *p; }
  AKIDB_INLINE static Reg load_tail(const float*, std::size_t) { return 0.0F; }  // a part of one float is none
  AKIDB_INLINE static Reg add(Reg a, Reg b) { return a + b; }
  AKIDB_INLINE static Reg sub(Reg a, Reg b) { return a - b; }
  AKIDB_INLINE static Reg fma(Reg a, Reg b, Reg c) {
    return a * b + c;
  }  // rounds twice: without FMA hardware a fused one is a slow call
  AKIDB_INLINE static float total(Reg r) { return r; }
};

}  // namespace

namespace scalar {
constexpr Kernels kKernels = table<Float>(SimdLevel::kScalar, "scalar");
}
}  // namespace akidb
