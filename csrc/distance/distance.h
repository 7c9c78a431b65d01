// Distances between float32 vectors, and dot products with codes of them. Inside AkiDB smaller is nearer, for every
// metric. README.md has the numeric contract.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cpu/simd_level.h"

namespace akidb {

enum class Metric : std::uint32_t {
  kCosine = 0,        // 1 - cos(a, b), of stored inverse norms
  kL2 = 1,            // squared Euclidean distance
  kInnerProduct = 2,  // -dot(a, b)
};

// The kernels of one SIMD level. Pointers need no alignment beyond float's; dim may be 0; nothing past dim is read.
// A row's value does not depend on how it is asked for: l2_batch4 gives bit for bit what four calls of l2 give, so
// equal vectors tie wherever they lie.
struct Kernels {
  float (*l2)(const float* a, const float* b, std::size_t dim);  // squared
  float (*dot)(const float* a, const float* b, std::size_t dim);
  void (*l2_batch4)(const float* query, const float* const rows[4], std::size_t dim, float out[4]);
  void (*dot_batch4)(const float* query, const float* const rows[4], std::size_t dim, float out[4]);

  // Sums of query[i] * code[i], exact: codes are unsigned, dim is a multiple of kCodeBlock (what pads a vector is 0 in
  // the query) and at most 65536.
  // u8: code i is byte i. u4: a block of 64 codes is 32 bytes, of which byte j holds code j in its low half and code
  // j + 32 in its high half, so that a register of bytes is two registers of codes by a mask and a shift.
  std::int32_t (*dot_u8)(const std::int8_t* query, const std::uint8_t* codes, std::size_t dim);
  std::int32_t (*dot_u4)(const std::int8_t* query, const std::uint8_t* codes, std::size_t dim);
  void (*dot_u8_batch4)(const std::int8_t* query, const std::uint8_t* const rows[4], std::size_t dim,
                        std::int32_t out[4]);
  void (*dot_u4_batch4)(const std::int8_t* query, const std::uint8_t* const rows[4], std::size_t dim,
                        std::int32_t out[4]);

  SimdLevel level;
  const char* name;
};

constexpr std::size_t kCodeBlock = 64;

// The kernels in use: chosen at the first call, for the life of the process. Throws Error(kInvalidInput) when
// AKIDB_SIMD_LEVEL is not a level.
const Kernels& kernels();

// The kernels of one level, or null where this machine can't run them.
const Kernels* kernels_at(SimdLevel level);

// 1 / |vector|, and 0 for the zero vector, whose cosine distance to everything is thereby 1.
float inverse_norm(const float* vector, std::size_t dim);

inline float cosine_distance(float dot, float inverse_norm_a, float inverse_norm_b) {
  return 1.0F - dot * inverse_norm_a * inverse_norm_b;
}

}  // namespace akidb
