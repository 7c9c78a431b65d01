// What an index holds in memory.
#pragma once

#include <atomic>
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
  Store(const Params& params, std::size_t capacity, std::size_t dim, Metric metric,
        std::span<const std::uint8_t> levels = {});

  Vectors vectors() const {
    return {rows.data(), stride, dim, metric == Metric::kCosine ? inverse_norms.data() : nullptr, metric};
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
  // Floats from one row of vectors to the next: rows begin on cache lines.
  static std::size_t stride_of(std::size_t dim) { return (dim + 15) / 16 * 16; }

  void set_vector(Node node, const float* vector);
  // Copies vector and id of `from.node` to `to`.
  void copy_node(const Store& from, Node node, Node to);

  const std::size_t dim;
  const std::size_t stride;
  const Metric metric;
  Graph graph;
  AlignedBuffer<float> rows;
  AlignedBuffer<float> inverse_norms;  // empty but for cosine
  AlignedBuffer<std::int64_t> ids;
  AlignedBuffer<std::uint8_t> removed;        // 1: never in a result; written and read atomically
  std::atomic<std::size_t> count{0};          // nodes in use
  std::atomic<std::size_t> removed_count{0};  // of those
};

}  // namespace akidb::hnsw
