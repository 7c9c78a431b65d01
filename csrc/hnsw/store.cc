#include "hnsw/store.h"

#include <cstring>

namespace akidb::hnsw {

Store::Store(const Params& params, std::size_t capacity, std::size_t dim_, Metric metric_,
             std::span<const std::uint8_t> levels)
    : dim(dim_),
      stride(stride_of(dim_)),
      metric(metric_),
      graph(params, capacity, levels),
      rows(capacity * stride),
      inverse_norms(metric_ == Metric::kCosine ? capacity : 0),
      ids(capacity),
      removed(capacity) {}

void Store::set_vector(Node node, const float* vector) {
  std::memcpy(&rows[std::size_t{node} * stride], vector, dim * sizeof(float));
  if (metric == Metric::kCosine) inverse_norms[node] = inverse_norm(vector, dim);
}

void Store::copy_node(const Store& from, Node node, Node to) {
  std::memcpy(&rows[std::size_t{to} * stride], &from.rows[std::size_t{node} * stride], stride * sizeof(float));
  if (!inverse_norms.empty()) inverse_norms[to] = from.inverse_norms[node];
  ids[to] = from.ids[node];
}

std::size_t Store::bytes() const {
  return graph.bytes() + rows.size() * sizeof(float) + inverse_norms.size() * sizeof(float) +
         ids.size() * sizeof(std::int64_t) + removed.size();
}

}  // namespace akidb::hnsw
