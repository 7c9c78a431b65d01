// AVX-512: Skylake-X and later. Codes in registers of 256 bits: without VNNI the wider ones gain nothing on rows of a
// few hundred bytes.
#include "distance/kernels/table.h"
#include "distance/kernels/ymm_codes.h"
#include "distance/kernels/zmm.h"

namespace akidb::avx512 {
constexpr Kernels kKernels = table<Zmm, YmmCodes>(SimdLevel::kAvx512, "avx512");
}
