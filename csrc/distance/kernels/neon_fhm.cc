// NEON with FMLAL (armv8.2-a+fp16fml): Apple M1, Neoverse V1, Cortex-A710 and later.
#include "distance/kernels/dotprod_bytes.h"
#include "distance/kernels/dotprod_codes.h"
#include "distance/kernels/fhm_floats.h"
#include "distance/kernels/table.h"

namespace akidb::neon_fhm {
constexpr Kernels kKernels = table<DotprodCodes, Quad>(
    SimdLevel::kNeonFhm, "neon_fhm", floats<Quad>(), floats<FhmHalf>(), floats<QuadBFloat>(),
    bytes<DotprodInt8SquaredDifferences, DotprodInt8Products>(),
    bytes<DotprodUint8SquaredDifferences, DotprodUint8Products>(), bits<DotprodDifferingBits>());
}
