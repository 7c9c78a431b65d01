// The vectors a graph connects, and the distance from one of them, or from a query, to others.
#pragma once

#include <cstddef>
#include <limits>

#include "common/prefetch.h"
#include "distance/distance.h"
#include "hnsw/order.h"
#include "hnsw/params.h"

namespace akidb::hnsw {

// Rows of float32 where they lie; not owned.
struct Vectors {
  const float* data = nullptr;
  std::size_t stride = 0;  // floats from one row to the next, at least dim
  std::size_t dim = 0;
  const float* inverse_norms = nullptr;  // one per row under cosine, else unused
  Metric metric = Metric::kCosine;
  Order order = {};  // of the nodes that a graph knows them by

  const float* row(Node node) const { return data + static_cast<std::size_t>(order.row_of(node)) * stride; }
  float inverse_norm(Node node) const { return inverse_norms == nullptr ? 0.0F : inverse_norms[order.row_of(node)]; }
};

// Error(kInvalidInput) naming the first of `count` x `dim` values that holds NaN or infinity or, under cosine, is zero.
// `name` is what the message calls a vector.
void check_vectors(const float* vectors, std::size_t count, std::size_t dim, Metric metric, const char* name);

// Distances from one point. The values equal those of exact search bit for bit: same kernels, same formula, same order
// of operations.
class Probe {
 public:
  Probe(const Vectors& vectors, const float* point, float inverse_norm_of_point)
      : vectors_(vectors), kernels_(kernels()), point_(point), inverse_norm_(inverse_norm_of_point) {}
  Probe(const Vectors& vectors, Node node) : Probe(vectors, vectors.row(node), vectors.inverse_norm(node)) {}

  float operator()(Node node) const {
    const float* row = vectors_.row(node);
    if (vectors_.metric == Metric::kL2) return number(kernels_.l2(point_, row, vectors_.dim));
    return of_dot(kernels_.dot(point_, row, vectors_.dim), node);
  }

  // out[i] = distance to nodes[i]. Rows in fours overlap their cache misses and share the loads of the point.
  void operator()(const Node* nodes, std::size_t count, float* out) const {
    std::size_t i = 0;
    for (; i + 4 <= count; i += 4) four(nodes + i, out + i);
    for (; i < count; ++i) out[i] = (*this)(nodes[i]);
  }

  void four(const Node* nodes, float* out) const {
    const float* rows[4] = {vectors_.row(nodes[0]), vectors_.row(nodes[1]), vectors_.row(nodes[2]),
                            vectors_.row(nodes[3])};
    if (vectors_.metric == Metric::kL2) {
      kernels_.l2_batch4(point_, rows, vectors_.dim, out);
      for (int i = 0; i < 4; ++i) out[i] = number(out[i]);
    } else {
      kernels_.dot_batch4(point_, rows, vectors_.dim, out);
      for (int i = 0; i < 4; ++i) out[i] = of_dot(out[i], nodes[i]);
    }
  }

  void prefetch_row(Node node) const {
    prefetch_range(vectors_.row(node), vectors_.dim * sizeof(float));
    if (vectors_.metric == Metric::kCosine) prefetch(vectors_.inverse_norms + vectors_.order.row_of(node));
  }

 private:
  // inf - inf of overflowed products would break every comparison that follows.
  static float number(float distance) {
    return distance == distance ? distance : std::numeric_limits<float>::infinity();
  }

  float of_dot(float dot, Node node) const {
    return number(vectors_.metric == Metric::kCosine ? cosine_distance(dot, inverse_norm_, vectors_.inverse_norm(node))
                                                     : -dot);
  }

  const Vectors& vectors_;
  const Kernels& kernels_;
  const float* point_;
  float inverse_norm_;
};

}  // namespace akidb::hnsw
