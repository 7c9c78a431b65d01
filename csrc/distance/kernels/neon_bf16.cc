// NEON with BFMLALB and BFMLALT (armv8.2-a+bf16): Apple M2, Neoverse V1 and V2, Cortex-A710 and later.
#include "distance/kernels/bf16_floats.h"
#include "distance/kernels/dotprod_bytes.h"
#include "distance/kernels/dotprod_codes.h"
#include "distance/kernels/fhm_floats.h"
#include "distance/kernels/table.h"

namespace akidb::neon_bf16 {
constexpr Kernels kKernels = table<DotprodCodes, Quad>(
    SimdLevel::kNeonBf16, "neon_bf16", floats<Quad>(), floats<FhmHalf>(), floats<Bf16BFloat>(),
    bytes<DotprodInt8SquaredDifferences, DotprodInt8Products>(),
    bytes<DotprodUint8SquaredDifferences, DotprodUint8Products>(), bits<DotprodDifferingBits>());
}
