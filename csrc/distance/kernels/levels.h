// The tables of all levels. A table is constant data: naming one runs no code of its unit.
#pragma once

#include "distance/distance.h"

namespace akidb {

namespace scalar {
extern const Kernels kKernels;
}
namespace neon {
extern const Kernels kKernels;
}
namespace neon_dotprod {
extern const Kernels kKernels;
}
namespace neon_fhm {
extern const Kernels kKernels;
}
namespace neon_bf16 {
extern const Kernels kKernels;
}
namespace neon_i8mm {
extern const Kernels kKernels;
}
namespace sve256 {
extern const Kernels kKernels;
}
namespace avx2 {
extern const Kernels kKernels;
}
namespace avx512 {
extern const Kernels kKernels;
}
namespace avx512_vnni {
extern const Kernels kKernels;
}
namespace avx512_vpopcntdq {
extern const Kernels kKernels;
}

}  // namespace akidb
