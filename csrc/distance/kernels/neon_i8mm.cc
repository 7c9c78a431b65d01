// NEON with USDOT (armv8.2-a+i8mm): Apple M2, Neoverse V1 and V2, Cortex-A710 and later. SMMLA, of the same extension,
// multiplies two rows by two: with one query half of its products would go unused.
#include "distance/kernels/bf16_floats.h"
#include "distance/kernels/dotprod_bytes.h"
#include "distance/kernels/dotprod_codes.h"
#include "distance/kernels/fhm_floats.h"
#include "distance/kernels/table.h"
#include "distance/kernels/usdot_panels.h"

namespace akidb {
namespace {

struct I8mmCodes : UsdotPanels {
  AKIDB_INLINE static Sum dot8(Sum sum, Codes c, Query q) { return vusdotq_s32(sum, c, q); }
  AKIDB_INLINE static std::int32_t missing8(const std::int8_t*, std::size_t) { return 0; }
};

}  // namespace

namespace neon_i8mm {
constexpr Kernels kKernels =
    table<I8mmCodes, Quad>(SimdLevel::kNeonI8mm, "neon_i8mm", floats<Quad>(), floats<FhmHalf>(), floats<Bf16BFloat>(),
                           bytes<DotprodInt8SquaredDifferences, DotprodInt8Products>(),
                           bytes<DotprodUint8SquaredDifferences, DotprodUint8Products>(), bits<DotprodDifferingBits>());
}
}  // namespace akidb
