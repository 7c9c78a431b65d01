// The table of a level, from the structs that describe its registers.
#pragma once

#include "distance/kernels/bytes.h"
#include "distance/kernels/code_panels.h"
#include "distance/kernels/codes.h"
#include "distance/kernels/floats.h"
#include "distance/kernels/levels.h"
#include "distance/kernels/panels.h"

namespace akidb {
namespace {  // NOLINT(misc-anonymous-namespace-in-header): as in floats.h

template <class V>
constexpr TypeKernels floats() {
  return {FloatKernel<V, SquaredL2>::kernel(), FloatKernel<V, Dot>::kernel()};
}

template <class L2, class Product>
constexpr TypeKernels bytes() {
  return {ByteKernel<L2>::kernel(), ByteKernel<Product>::kernel()};
}

template <class Differing>
constexpr TypeKernels bits() {
  return {ByteKernel<Differing>::kernel(), {}};
}

// The types in the order of ElementType; C: registers of codes; V: of floats; P: of panels of codes.
template <class C, class V, class P = C>
constexpr Kernels table(SimdLevel level, const char* name, TypeKernels float32, TypeKernels float16,
                        TypeKernels bfloat16, TypeKernels int8, TypeKernels uint8, TypeKernels binary) {
  return {{float32, float16, bfloat16, int8, uint8, binary},
          Panels<V>::kernel(),
          dot_u8<C>,
          dot_u4<C>,
          dot_u8_batch4<C>,
          dot_u4_batch4<C>,
          CodePanels<P>::dot,
          level,
          name};
}

}  // namespace
}  // namespace akidb
