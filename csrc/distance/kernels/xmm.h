// The last four partial sums on x86, added as floats.h says.
#pragma once

#include <immintrin.h>

#include "distance/kernels/inline.h"

namespace akidb {
namespace {  // NOLINT(misc-anonymous-namespace-in-header): as in floats.h

AKIDB_INLINE float total_of_four(__m128 four) {
  const __m128 two = _mm_add_ps(four, _mm_movehdup_ps(four));  // lane 0: 0 + 1, lane 2: 2 + 3
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehl_ps(two, two)));
}

AKIDB_INLINE __m128 four(__m256 eight) {
  return _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
}

// Of the even and the odd ones of sixteen.
AKIDB_INLINE float total_of_turns(__m256 even, __m256 odd) {
  const __m128 even4 = four(even);  // 0, 2, 4, 6
  const __m128 odd4 = four(odd);    // 1, 3, 5, 7
  return total_of_four(_mm_add_ps(_mm_unpacklo_ps(even4, odd4), _mm_unpackhi_ps(even4, odd4)));
}

}  // namespace
}  // namespace akidb
