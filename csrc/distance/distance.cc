#include "distance/distance.h"

#include <cmath>
#include <cstdlib>
#include <vector>

#include "distance/kernels/levels.h"

namespace akidb {

const Kernels* kernels_at(SimdLevel level) {
  if (level > detected_simd_level()) return nullptr;
  switch (level) {
    case SimdLevel::kScalar:
      return &scalar::kKernels;
#if defined(__aarch64__)
    case SimdLevel::kNeon:
      return &neon::kKernels;
    case SimdLevel::kNeonDotprod:
      return &neon_dotprod::kKernels;
    case SimdLevel::kNeonFhm:
      return &neon_fhm::kKernels;
    case SimdLevel::kNeonBf16:
      return &neon_bf16::kKernels;
    case SimdLevel::kNeonI8mm:
      return &neon_i8mm::kKernels;
#if defined(__linux__)
    case SimdLevel::kSve256:
      return &sve256::kKernels;
#endif
#elif defined(__x86_64__)
    case SimdLevel::kAvx2:
      return &avx2::kKernels;
    case SimdLevel::kAvx512:
      return &avx512::kKernels;
    case SimdLevel::kAvx512Vnni:
      return &avx512_vnni::kKernels;
    case SimdLevel::kAvx512Vpopcntdq:
      return &avx512_vpopcntdq::kKernels;
#endif
    default:
      return nullptr;
  }
}

const Kernels& kernels() {
  static const Kernels& chosen =
      *kernels_at(resolve_simd_level(std::getenv("AKIDB_SIMD_LEVEL"), detected_simd_level()));
  return chosen;
}

float inverse_norm(ElementType type, const void* vector, std::size_t dim) {
  const float squared = kernels().dot(type).single(vector, vector, dim);
  if (squared >= 1e-30F && squared <= 1e30F) return 1.0F / std::sqrt(squared);
  // Near the ends of float's range the squares overflow or lose their digits; double holds them all.
  std::vector<float> values(dim);
  decode(type, vector, dim, values.data());
  double sum = 0.0;
  for (const float value : values) sum += static_cast<double>(value) * static_cast<double>(value);
  return sum > 0.0 ? static_cast<float>(1.0 / std::sqrt(sum)) : 0.0F;
}

}  // namespace akidb
