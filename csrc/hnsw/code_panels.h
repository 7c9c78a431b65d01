// Codes of nodes in panels, to compare many with many: where each code is loaded once for all queries at hand, a
// comparison costs a fraction of what one at a time does.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <span>
#include <vector>

#include "common/aligned_buffer.h"
#include "distance/distance.h"
#include "hnsw/mask_bits.h"
#include "hnsw/params.h"
#include "quantization/codes.h"

namespace akidb::hnsw {

class CodePanels {
 public:
  // Room for that many panels of codes of 8 bits; no place is taken yet.
  CodePanels(const quantization::Codes& codes, std::size_t panels)
      : codes_(&codes),
        dim_(codes.shape.padded_dim()),
        bytes_(panels * kCodePanel * dim_),
        bases_(panels * kCodePanel, std::numeric_limits<float>::infinity()),
        scales_(panels * kCodePanel, 0.0F),
        nodes_(panels * kCodePanel, kNoNode) {}

  // Places count through the panels. Any number of threads may set different ones.
  void set(std::size_t place, Node node) {
    const std::uint8_t* row = codes_->row(node);
    std::uint8_t* to = bytes_.data() + place / kCodePanel * kCodePanel * dim_ + 4 * (place % kCodePanel);
    for (std::size_t i = 0; i < dim_; i += 4) std::memcpy(to + i * kCodePanel, row + i, 4);
    bases_[place] = codes_->factors[node].base;
    scales_[place] = codes_->factors[node].scale;
    nodes_[place] = node;
  }

  // Of a panel's places; kNoNode where none is.
  const Node* nodes(std::size_t panel) const { return nodes_.data() + panel * kCodePanel; }

  // Calls take(q, distances) for each query, distances being those to the nodes of the panel, +inf where none is. They
  // equal those of a CodeProbe.
  template <class Take>
  void compare(std::size_t panel, std::span<const quantization::CodedQuery> queries, const Take& take) const {
    const std::int8_t* values[kCodePanelQueries];
    std::int32_t dots[kCodePanelQueries * kCodePanel];
    float distances[kCodePanel];
    const std::size_t first_place = panel * kCodePanel;
    for (std::size_t first = 0; first < queries.size(); first += kCodePanelQueries) {
      const std::size_t count = std::min(kCodePanelQueries, queries.size() - first);
      for (std::size_t q = 0; q < kCodePanelQueries; ++q) values[q] = queries[first + std::min(q, count - 1)].values();
      kernels().dot_u8_panel(bytes_.data() + first_place * dim_, values, dim_, dots);
      for (std::size_t q = 0; q < count; ++q) {
        const quantization::CodedQuery& query = queries[first + q];
        for (std::size_t r = 0; r < kCodePanel; ++r) {
          distances[r] = query.distance({bases_[first_place + r], scales_[first_place + r]}, dots[q * kCodePanel + r]);
        }
        take(first + q, distances);
      }
    }
  }

 private:
  const quantization::Codes* codes_;
  std::size_t dim_;
  AlignedBuffer<std::uint8_t> bytes_;
  std::vector<float> bases_;
  std::vector<float> scales_;
  std::vector<Node> nodes_;
};

// Calls take(r) for the distances of a panel that are no more than `bound`. Most panels have none.
template <class Take>
void for_each_within(const float* distances, float bound, const Take& take) {
  static_assert(kCodePanel == 16);
  for (std::uint32_t bits = bits_of_floats_within(distances, bound); bits != 0; bits &= bits - 1)
    take(static_cast<std::size_t>(std::countr_zero(bits)));
}

}  // namespace akidb::hnsw
