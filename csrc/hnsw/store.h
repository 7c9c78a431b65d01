// What an index holds in memory.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>

#include "common/aligned_buffer.h"
#include "hnsw/graph.h"
#include "hnsw/passing.h"
#include "hnsw/vectors.h"

namespace akidb::hnsw {

// Vectors, ids and graph of an index, with room for graph.capacity() nodes. Of a node all is written before the first
// link to it.
struct Store {
  Store(const Params& params, std::size_t capacity, const Space& space, std::span<const std::uint8_t> levels = {});

  Vectors vectors() const {
    const bool has_norms = space.metric == Metric::kCosine;
    return {space.type, rows.data(), stride_bytes, space.dim, has_norms ? inverse_norms.data() : nullptr, space.metric};
  }
  std::size_t capacity() const { return graph.capacity(); }
  std::size_t bytes() const;
  Removals removals_so_far() const { return {removed_count == 0 ? nullptr : removed_in.data(), removals}; }
  bool is_removed(Node node) const { return removed_in[node] != 0; }
  // Nodes of one call of the user's go together. It removes one at least, so calls are no more than nodes.
  void begin_removal() { ++removals; }
  void remove(Node node) {
    __atomic_store_n(&removed_in[node], removals, __ATOMIC_RELAXED);
    ++removed_count;
  }
  // From one row of vectors to the next: rows begin on cache lines, and short ones do not cross from one to another.
  static std::size_t stride_of(std::size_t bytes) {
    return bytes < kCacheLineBytes ? std::bit_ceil(bytes)
                                   : (bytes + kCacheLineBytes - 1) / kCacheLineBytes * kCacheLineBytes;
  }

  void set_vector(Node node, const void* vector);
  // Copies vector and id of `from.node` to `to`.
  void copy_node(const Store& from, Node node, Node to);

  const Space space;
  const std::size_t stride_bytes;
  Graph graph;
  AlignedBuffer<std::uint8_t> rows;
  AlignedBuffer<float> inverse_norms;  // empty but for cosine
  AlignedBuffer<std::int64_t> ids;
  AlignedBuffer<Removals::Time> removed_in;  // by node, 0: it is there; read while it is written, both atomically
  Removals::Time removals = 0;               // calls that removed nodes
  std::size_t removed_count = 0;             // nodes
  std::size_t count = 0;                     // nodes in use
  std::size_t shown = 0;                     // of those before an add that is under way
};

}  // namespace akidb::hnsw
