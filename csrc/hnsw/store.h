// What an index holds in memory.
#pragma once

#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>

#include "common/aligned_buffer.h"
#include "hnsw/graph.h"
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
  void hide(Node node) {
    __atomic_store_n(&removed[node], 1, __ATOMIC_RELAXED);
    ++removed_count;
  }
  void show(Node node) {
    __atomic_store_n(&removed[node], 0, __ATOMIC_RELAXED);
    --removed_count;
  }
  bool is_removed(Node node) const { return __atomic_load_n(&removed[node], __ATOMIC_RELAXED) != 0; }
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
  AlignedBuffer<std::uint8_t> removed;        // 1: never in a result; written and read atomically
  std::atomic<std::size_t> count{0};          // nodes in use
  std::atomic<std::size_t> removed_count{0};  // of those
};

}  // namespace akidb::hnsw
