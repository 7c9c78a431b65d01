// What the elements of a vector are, and how a vector lies in memory.
#pragma once

#include <cstddef>
#include <cstdint>

namespace akidb {

enum class ElementType : std::uint32_t {
  kFloat32 = 0,
  kFloat16 = 1,   // IEEE 754 binary16
  kBFloat16 = 2,  // the upper half of a float32
  kInt8 = 3,
  kUint8 = 4,
  kBinary = 5,  // eight bits to the byte, the bits past dim zero
};
constexpr std::size_t kElementTypes = 6;

// Bytes of a vector.
constexpr std::size_t vector_bytes(ElementType type, std::size_t dim) {
  switch (type) {
    case ElementType::kFloat32:
      return dim * 4;
    case ElementType::kFloat16:
    case ElementType::kBFloat16:
      return dim * 2;
    case ElementType::kBinary:
      return (dim + 7) / 8;
    default:
      return dim;
  }
}

constexpr bool is_float(ElementType type) { return type <= ElementType::kBFloat16; }

[[gnu::always_inline]] inline float float_of_half(std::uint16_t half) {
  // The exponents differ by 112, and multiplying brings subnormals into place as well (Giesen, "Half to float done
  // quickly"). Infinity and NaN have an exponent of their own.
  const std::uint32_t magnitude = (half & 0x7FFFU) << 13;
  std::uint32_t bits = __builtin_bit_cast(std::uint32_t, __builtin_bit_cast(float, magnitude) * 0x1p112F);
  if (magnitude >= 0x0F800000U) bits |= 0x7F800000U;
  return __builtin_bit_cast(float, bits | (half & 0x8000U) << 16);
}

[[gnu::always_inline]] inline float float_of_bfloat(std::uint16_t bfloat) {
  return __builtin_bit_cast(float, std::uint32_t{bfloat} << 16);
}

// The values of a vector, exactly: dim floats, of binary vectors zeros and ones.
void decode(ElementType type, const void* vector, std::size_t dim, float* out);

}  // namespace akidb
