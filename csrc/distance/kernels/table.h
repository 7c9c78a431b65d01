// The table of a level, from its registers of floats F and of codes C.
#pragma once

#include "distance/kernels/codes.h"
#include "distance/kernels/f32.h"
#include "distance/kernels/levels.h"

namespace akidb {
namespace {  // NOLINT(misc-anonymous-namespace-in-header): as in f32.h

template <class F, class C>
constexpr Kernels table(SimdLevel level, const char* name) {
  return {single<F, SquaredL2>,
          single<F, Dot>,
          batch4<F, SquaredL2>,
          batch4<F, Dot>,
          dot_u8<C>,
          dot_u4<C>,
          dot_u8_batch4<C>,
          dot_u4_batch4<C>,
          level,
          name};
}

}  // namespace
}  // namespace akidb
