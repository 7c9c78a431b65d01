#include "hnsw/store.h"

#include <cstring>

namespace akidb::hnsw {

Store::Store(const Params& params, std::size_t capacity, const Space& space_, std::span<const std::uint8_t> levels)
    : space(space_),
      stride_bytes(stride_of(vector_bytes(space_.type, space_.dim))),
      graph(params, capacity, levels),
      rows(capacity * stride_bytes),
      inverse_norms(space_.metric == Metric::kCosine ? capacity : 0),
      ids(capacity),
      removed_in(capacity) {}

void Store::set_vector(Node node, const void* vector) {
  std::memcpy(&rows[std::size_t{node} * stride_bytes], vector, vector_bytes(space.type, space.dim));
  if (space.metric == Metric::kCosine) inverse_norms[node] = inverse_norm(space.type, vector, space.dim);
}

void Store::copy_node(const Store& from, Node node, Node to) {
  std::memcpy(&rows[std::size_t{to} * stride_bytes], &from.rows[std::size_t{node} * stride_bytes], stride_bytes);
  if (!inverse_norms.empty()) inverse_norms[to] = from.inverse_norms[node];
  ids[to] = from.ids[node];
}

std::size_t Store::bytes() const {
  return graph.bytes() + rows.size() + inverse_norms.size() * sizeof(float) + ids.size() * sizeof(std::int64_t) +
         removed_in.size() * sizeof(Removals::Time);
}

}  // namespace akidb::hnsw
