// Panels of codes by USDOT, which takes codes as they are.
#pragma once

#include "distance/kernels/dotprod_codes.h"

namespace akidb {
namespace {  // NOLINT(misc-anonymous-namespace-in-header): as in floats.h

struct UsdotPanels : DotprodCodes {
  struct PanelRows {
    uint8x16_t of[2];
  };
  AKIDB_INLINE static PanelRows load_rows(const std::uint8_t* p) { return {{vld1q_u8(p), vld1q_u8(p + 16)}}; }
  template <int kFour>
  AKIDB_INLINE static void add_rows(PanelSum& sum, const PanelRows& rows, Values values) {
    for (int i = 0; i < 2; ++i) sum.of[i] = vusdotq_laneq_s32(sum.of[i], rows.of[i], values, kFour);
  }
  AKIDB_INLINE static std::int32_t missing_in_panel(const std::int8_t*, std::size_t) { return 0; }
};

}  // namespace
}  // namespace akidb
