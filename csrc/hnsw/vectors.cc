#include "hnsw/vectors.h"

#include <bit>
#include <cmath>
#include <cstdint>
#include <string>

#include "common/error.h"

namespace akidb::hnsw {

namespace {

// Integer arithmetic, since the loop then needs no fixed order of additions and vectorises.
bool is_finite(const float* vector, std::size_t dim) {
  constexpr std::uint32_t kExponent = 0x7F800000U;
  std::uint32_t bad = 0;
  for (std::size_t i = 0; i < dim; ++i)
    bad |= static_cast<std::uint32_t>((std::bit_cast<std::uint32_t>(vector[i]) & kExponent) == kExponent);
  return bad == 0;
}

}  // namespace

void check_vectors(const float* vectors, std::size_t count, std::size_t dim, Metric metric, const char* name) {
  for (std::size_t i = 0; i < count; ++i) {
    const float* vector = vectors + i * dim;
    if (!is_finite(vector, dim)) throw_invalid(std::string(name) + " " + std::to_string(i) + " holds NaN or infinity");
    if (metric != Metric::kCosine) continue;
    const float norm = inverse_norm(vector, dim);
    if (norm == 0.0F || !std::isfinite(norm)) {
      throw_invalid(std::string(name) + " " + std::to_string(i) + " is zero and has no direction, which cosine needs");
    }
  }
}

}  // namespace akidb::hnsw
