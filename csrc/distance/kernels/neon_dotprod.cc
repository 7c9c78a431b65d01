// NEON with SDOT and UDOT (armv8.2-a+dotprod): Cortex-A76, Neoverse N1, Apple M1, Jetson Orin and later.
#include "distance/kernels/dotprod_bytes.h"
#include "distance/kernels/dotprod_codes.h"
#include "distance/kernels/quad.h"
#include "distance/kernels/table.h"

namespace akidb::neon_dotprod {
constexpr Kernels kKernels = table<DotprodCodes, Quad>(
    SimdLevel::kNeonDotprod, "neon_dotprod", floats<Quad>(), floats<QuadHalf>(), floats<QuadBFloat>(),
    bytes<DotprodInt8SquaredDifferences, DotprodInt8Products>(),
    bytes<DotprodUint8SquaredDifferences, DotprodUint8Products>(), bits<DotprodDifferingBits>());
}
