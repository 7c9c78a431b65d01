// NEON, in every 64-bit ARM processor.
#include "distance/kernels/quad.h"
#include "distance/kernels/quad_codes.h"
#include "distance/kernels/table.h"

namespace akidb::neon {
constexpr Kernels kKernels = table<Quad, QuadCodes>(SimdLevel::kNeon, "neon");
}
