#include "hnsw/vectors.h"

#include <cstdint>
#include <string>

#include "common/error.h"

namespace akidb::hnsw {

namespace {

// Whether no element has all bits of the exponent. Integer arithmetic, since the loop then needs no fixed order of
// additions and vectorises.
template <class Bits>
bool is_finite(const void* vector, std::size_t dim, Bits exponent) {
  const auto* elements = static_cast<const Bits*>(vector);
  unsigned bad = 0;
  for (std::size_t i = 0; i < dim; ++i) bad |= static_cast<unsigned>((elements[i] & exponent) == exponent);
  return bad == 0;
}

// What is wrong with a vector whatever the metric; null: nothing.
const char* fault_of(ElementType type, const void* vector, std::size_t dim) {
  constexpr const char* kNotFinite = "holds NaN or infinity";
  switch (type) {
    case ElementType::kFloat32:
      return is_finite<std::uint32_t>(vector, dim, 0x7F800000U) ? nullptr : kNotFinite;
    case ElementType::kFloat16:
      return is_finite<std::uint16_t>(vector, dim, 0x7C00U) ? nullptr : kNotFinite;
    case ElementType::kBFloat16:
      return is_finite<std::uint16_t>(vector, dim, 0x7F80U) ? nullptr : kNotFinite;
    case ElementType::kBinary: {
      const unsigned past = dim % 8 == 0 ? 0U : 0xFFU >> dim % 8;
      const bool has_more = (static_cast<const std::uint8_t*>(vector)[(dim - 1) / 8] & past) != 0;
      return has_more ? "has bits set past the last dimension" : nullptr;
    }
    default:
      return nullptr;
  }
}

// Under cosine; null: nothing. Squares and products of shorter and longer vectors leave the range of float32, and with
// them the distance.
const char* fault_of_length(float inverse_norm) {
  constexpr float kLargest = 1.001e15F;
  constexpr float kSmallest = 5.43e-20F;
  if (inverse_norm == 0.0F) return "is zero and has no direction, which cosine needs";
  if (inverse_norm > kLargest) return "is shorter than 1e-15, of which float32 holds no cosine";
  if (inverse_norm < kSmallest) return "is longer than 1.84e19, of which float32 holds no cosine";
  return nullptr;
}

}  // namespace

void check_vectors(ElementType type, const void* vectors, std::size_t count, std::size_t dim, Metric metric,
                   const char* name) {
  for (std::size_t i = 0; i < count; ++i) {
    const void* vector = static_cast<const std::uint8_t*>(vectors) + i * vector_bytes(type, dim);
    if (const char* fault = fault_of(type, vector, dim))
      throw_invalid(std::string(name) + " " + std::to_string(i) + " " + fault);
    if (metric != Metric::kCosine) continue;
    if (const char* fault = fault_of_length(inverse_norm(type, vector, dim)))
      throw_invalid(std::string(name) + " " + std::to_string(i) + " " + fault);
  }
}

}  // namespace akidb::hnsw
