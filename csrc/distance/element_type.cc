#include "distance/element_type.h"

#include <algorithm>
#include <cstring>

namespace akidb {

void decode(ElementType type, const void* vector, std::size_t dim, float* out) {
  switch (type) {
    case ElementType::kFloat32:
      if (dim > 0) std::memcpy(out, vector, dim * sizeof(float));
      return;
    case ElementType::kFloat16:
      for (std::size_t i = 0; i < dim; ++i) out[i] = float_of_half(static_cast<const std::uint16_t*>(vector)[i]);
      return;
    case ElementType::kBFloat16:
      for (std::size_t i = 0; i < dim; ++i) out[i] = float_of_bfloat(static_cast<const std::uint16_t*>(vector)[i]);
      return;
    case ElementType::kInt8:
      std::copy_n(static_cast<const std::int8_t*>(vector), dim, out);
      return;
    case ElementType::kUint8:
      std::copy_n(static_cast<const std::uint8_t*>(vector), dim, out);
      return;
    case ElementType::kBinary:
      for (std::size_t i = 0; i < dim; ++i)
        out[i] = static_cast<float>(static_cast<const std::uint8_t*>(vector)[i / 8] >> (7 - i % 8) & 1);
      return;
  }
}

}  // namespace akidb
