// Distances from a query to the codes of nodes: what a Probe is to vectors. Approximate, for finding the way and the
// candidates.
#pragma once

#include <cstddef>
#include <cstdint>

#include "common/prefetch.h"
#include "distance/distance.h"
#include "hnsw/params.h"
#include "quantization/codes.h"

namespace akidb::hnsw {

class CodeProbe {
 public:
  // `query` was prepared for these codes.
  CodeProbe(const quantization::Codes& codes, const quantization::CodedQuery& query)
      : codes_(codes),
        query_(query),
        dim_(codes.shape.padded_dim()),
        row_bytes_(codes.shape.row_bytes()),
        dot_(codes.shape.bits == quantization::CodeBits::kFour ? kernels().dot_u4 : kernels().dot_u8),
        dot_batch4_(codes.shape.bits == quantization::CodeBits::kFour ? kernels().dot_u4_batch4
                                                                      : kernels().dot_u8_batch4) {}

  float operator()(Node node) const {
    return query_.distance(codes_.factors[node], dot_(query_.values(), row_of(node), dim_));
  }

  void four(const Node* nodes, float* out) const {
    const std::uint8_t* rows[4];
    std::int32_t dots[4];
    for (int i = 0; i < 4; ++i) rows[i] = row_of(nodes[i]);
    dot_batch4_(query_.values(), rows, dim_, dots);
    for (int i = 0; i < 4; ++i) out[i] = query_.distance(codes_.factors[nodes[i]], dots[i]);
  }

  // out[i] = distance to node first + i, of at most kScanBlock: codes are read on in memory, which the hardware fetches
  // ahead.
  void run(Node first, std::size_t count, float* out) const {
    std::int32_t dots[kScanBlock];
    std::size_t i = 0;
    for (; i + 4 <= count; i += 4) {
      const std::uint8_t* row = row_of(first + static_cast<Node>(i));
      const std::uint8_t* rows[4] = {row, row + row_bytes_, row + 2 * row_bytes_, row + 3 * row_bytes_};
      dot_batch4_(query_.values(), rows, dim_, dots + i);
    }
    for (; i < count; ++i) dots[i] = dot_(query_.values(), row_of(first + static_cast<Node>(i)), dim_);
    query_.distances(codes_.factors + first, dots, count, out);
  }

  void prefetch_row(Node node) const {
    prefetch_range(row_of(node), row_bytes_);
    prefetch(codes_.factors + node);
  }

 private:
  const std::uint8_t* row_of(Node node) const { return codes_.rows + node * row_bytes_; }

  const quantization::Codes& codes_;
  const quantization::CodedQuery& query_;
  std::size_t dim_;
  std::size_t row_bytes_;
  std::int32_t (*dot_)(const std::int8_t*, const std::uint8_t*, std::size_t);
  void (*dot_batch4_)(const std::int8_t*, const std::uint8_t* const[4], std::size_t, std::int32_t[4]);
};

// The same by codes and fine codes together, of graphs that have both.
class FineProbe {
 public:
  FineProbe(const quantization::Codes& codes, const quantization::CodedQuery& query)
      : codes_(codes), query_(query), dim_(codes.shape.padded_dim()), dot_(kernels().dot_u4) {}

  float operator()(Node node) const {
    const std::int32_t dot =
        16 * dot_(query_.values(), codes_.row(node), dim_) + dot_(query_.values(), codes_.fine_row(node), dim_);
    return query_.fine_distance(codes_.factors[node].base, codes_.fine_scales[node], dot);
  }

  // What the walk read is near already.
  void prefetch_row(Node node) const {
    prefetch_range(codes_.fine_row(node), codes_.shape.row_bytes());
    prefetch(codes_.fine_scales + node);
  }

 private:
  const quantization::Codes& codes_;
  const quantization::CodedQuery& query_;
  std::size_t dim_;
  std::int32_t (*dot_)(const std::int8_t*, const std::uint8_t*, std::size_t);
};

}  // namespace akidb::hnsw
