// Distances between vectors, and dot products with codes of them. Inside AkiDB smaller is nearer, for every metric.
// README.md has the numeric contract.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>

#include "cpu/simd_level.h"
#include "distance/element_type.h"

namespace akidb {

enum class Metric : std::uint32_t {
  kCosine = 0,        // 1 - cos(a, b), of stored inverse norms
  kL2 = 1,            // squared Euclidean distance; of binary vectors the Hamming distance
  kInnerProduct = 2,  // -dot(a, b)
};

constexpr std::size_t kTileSide = 4;

// A sum over the elements of two vectors, and the ways to ask for it. Pointers need no alignment beyond the element's;
// dim may be 0 and is at most 65536; nothing past a vector is read. A pair's value does not depend on how it is asked
// for: batch4 and tile give bit for bit what calls of single give, so equal vectors tie wherever they lie.
struct Kernel {
  float (*single)(const void* a, const void* b, std::size_t dim);
  void (*batch4)(const void* query, const void* const rows[4], std::size_t dim, float out[4]);
  // Every query with every row: out[4 * q + r]. What is loaded serves four pairs, so arithmetic is the limit and not
  // the caches.
  void (*tile)(const void* const queries[kTileSide], const void* const rows[kTileSide], std::size_t dim,
               float out[kTileSide * kTileSide]);
};

// The kernels of one type of element.
struct TypeKernels {
  Kernel l2;   // squared; of binary vectors the number of bits that differ
  Kernel dot;  // none for binary vectors
};

// Products of float32 vectors, many with many: a step of multiplying matrices. They round in an order of their own, so
// they serve where a bound on the error does (flat/screen.h), not for distances.
constexpr std::size_t kPanelDim = 128;  // elements of a vector at a time, so that a panel stays in L1
constexpr std::size_t kPanelStep = 4;

struct PanelKernel {
  std::size_t queries;  // of a panel
  std::size_t rows;     // of a call

  // sums[r * queries + q] += the product of row r and query q over `dim` elements, a multiple of kPanelStep up to
  // kPanelDim. Element i of query q is panel[i * queries + q], that of row r rows[r * kPanelDim + i]. Each product is
  // summed from its first term to its last, from 0, then added.
  void (*add)(const float* panel, const float* rows, std::size_t dim, float* sums);
};

// Rows of 8-bit codes that are compared together, four codes of each by turns: byte 4 * (kCodePanel * g + r) + i of a
// panel is code 4g + i of row r.
constexpr std::size_t kCodePanel = 16;
constexpr std::size_t kCodePanelQueries = 8;  // of a call

// The kernels of one SIMD level.
struct Kernels {
  TypeKernels types[kElementTypes];  // by ElementType
  PanelKernel panels;

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
  // out[q * kCodePanel + r] is the sum of query q with row r of a panel.
  void (*dot_u8_panel)(const std::uint8_t* panel, const std::int8_t* const queries[kCodePanelQueries], std::size_t dim,
                       std::int32_t out[kCodePanelQueries * kCodePanel]);

  SimdLevel level;
  const char* name;

  const Kernel& l2(ElementType type) const { return types[static_cast<std::size_t>(type)].l2; }
  const Kernel& dot(ElementType type) const { return types[static_cast<std::size_t>(type)].dot; }
  // What a metric is computed from.
  const Kernel& of(ElementType type, Metric metric) const { return metric == Metric::kL2 ? l2(type) : dot(type); }
};

constexpr std::size_t kCodeBlock = 64;

// The kernels in use: chosen at the first call, for the life of the process. Throws Error(kInvalidInput) when
// AKIDB_SIMD_LEVEL is not a level.
const Kernels& kernels();

// The kernels of one level, or null where this machine can't run them.
const Kernels* kernels_at(SimdLevel level);

// 1 / |vector|, and 0 for the zero vector, whose cosine distance to everything is thereby 1. Not of binary vectors.
float inverse_norm(ElementType type, const void* vector, std::size_t dim);
inline float inverse_norm(const float* vector, std::size_t dim) {
  return inverse_norm(ElementType::kFloat32, vector, dim);
}

// The distance, or infinity where that is not a number, as inf - inf of overflowed products: NaN would break every
// order.
inline float number(float distance) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  return distance < kInfinity ? distance : kInfinity;
}

inline float cosine_distance(float dot, float inverse_norm_a, float inverse_norm_b) {
  return 1.0F - dot * inverse_norm_a * inverse_norm_b;
}

}  // namespace akidb
