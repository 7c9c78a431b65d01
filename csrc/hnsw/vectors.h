// The vectors a graph connects, and the distance from one of them, or from a query, to others.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "common/prefetch.h"
#include "distance/distance.h"
#include "hnsw/order.h"
#include "hnsw/params.h"
#include "hnsw/row_file.h"

namespace akidb::hnsw {

// What the vectors of an index are, and how they are compared.
struct Space {
  std::size_t dim = 0;
  Metric metric = Metric::kCosine;
  ElementType type = ElementType::kFloat32;
};

// Rows of vectors where they lie; not owned.
struct Vectors {
  ElementType type = ElementType::kFloat32;
  const void* data = nullptr;
  std::size_t stride_bytes = 0;  // from one row to the next, at least row_bytes()
  std::size_t dim = 0;
  const float* inverse_norms = nullptr;  // one per row under cosine, else unused
  Metric metric = Metric::kCosine;
  Order order = {};  // of the nodes that a graph knows them by
  // That `data` is mapped from: a search with codes reads the few rows that it compares exactly from it.
  RowFile file = {};

  std::size_t row_bytes() const { return vector_bytes(type, dim); }
  const void* row(Node node) const {
    return static_cast<const std::uint8_t*>(data) + static_cast<std::size_t>(order.row_of(node)) * stride_bytes;
  }
  float inverse_norm(Node node) const { return inverse_norms == nullptr ? 0.0F : inverse_norms[order.row_of(node)]; }
};

// Error(kInvalidInput) naming the first of `count` vectors that lie close together which holds NaN or infinity or bits
// past dim or, under cosine, is zero, shorter than 1e-15 or longer than 1.84e19. `name` is what the message calls a
// vector.
void check_vectors(ElementType type, const void* vectors, std::size_t count, std::size_t dim, Metric metric,
                   const char* name);

// Distances from one point. The values equal those of exact search bit for bit: same kernels, same formula, same order
// of operations.
class Probe {
 public:
  // `point` is of the vectors' type.
  Probe(const Vectors& vectors, const void* point, float inverse_norm_of_point)
      : vectors_(vectors),
        kernel_(kernels().of(vectors.type, vectors.metric)),
        point_(point),
        inverse_norm_(inverse_norm_of_point) {}
  Probe(const Vectors& vectors, Node node) : Probe(vectors, vectors.row(node), vectors.inverse_norm(node)) {}

  float operator()(Node node) const { return of(vectors_.row(node), node); }
  // To a node of which this is the row.
  float of(const void* row, Node node) const { return distance(kernel_.single(point_, row, vectors_.dim), node); }

  // out[i] = distance to nodes[i]. Rows in fours overlap their cache misses and share the loads of the point.
  void operator()(const Node* nodes, std::size_t count, float* out) const {
    std::size_t i = 0;
    for (; i + 4 <= count; i += 4) four(nodes + i, out + i);
    for (; i < count; ++i) out[i] = (*this)(nodes[i]);
  }

  void four(const Node* nodes, float* out) const {
    const void* const rows[4] = {vectors_.row(nodes[0]), vectors_.row(nodes[1]), vectors_.row(nodes[2]),
                                 vectors_.row(nodes[3])};
    kernel_.batch4(point_, rows, vectors_.dim, out);
    for (int i = 0; i < 4; ++i) out[i] = distance(out[i], nodes[i]);
  }

  // out[i] = distance to node first + i.
  void run(Node first, std::size_t count, float* out) const {
    for (std::size_t i = 0; i < count; i += 4) {
      const Node nodes[4] = {first + static_cast<Node>(i), first + static_cast<Node>(i) + 1,
                             first + static_cast<Node>(i) + 2, first + static_cast<Node>(i) + 3};
      (*this)(nodes, std::min<std::size_t>(4, count - i), out + i);
    }
  }

  void prefetch_row(Node node) const {
    prefetch_range(vectors_.row(node), vectors_.row_bytes());
    if (vectors_.metric == Metric::kCosine) prefetch(vectors_.inverse_norms + vectors_.order.row_of(node));
  }

 private:
  // Of the kernel's sum.
  float distance(float sum, Node node) const {
    switch (vectors_.metric) {
      case Metric::kL2:
        return number(sum);
      case Metric::kInnerProduct:
        return number(-sum);
      case Metric::kCosine:
        break;
    }
    return number(cosine_distance(sum, inverse_norm_, vectors_.inverse_norm(node)));
  }

  const Vectors& vectors_;
  const Kernel& kernel_;
  const void* point_;
  float inverse_norm_;
};

// The same with the nodes' rows read from vectors.file to `buffer` (row_bytes).
class FileProbe {
 public:
  FileProbe(const Vectors& vectors, const Probe& probe, std::uint8_t* buffer)
      : vectors_(vectors), probe_(probe), buffer_(buffer) {}

  float operator()(Node node) const {
    vectors_.file.read(vectors_.order.row_of(node), buffer_);
    return probe_.of(buffer_, node);
  }
  void prefetch_row(Node /*node*/) const {}

 private:
  const Vectors& vectors_;
  const Probe& probe_;
  std::uint8_t* buffer_;
};

}  // namespace akidb::hnsw
