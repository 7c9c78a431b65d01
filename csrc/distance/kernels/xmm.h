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

}  // namespace
}  // namespace akidb
