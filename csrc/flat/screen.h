// Which rows may be among the nearest of which queries, told by multiplying matrices: a fraction of what the distances
// of all pairs cost. What is told errs, by no more than a bound that holds for all vectors (screen.cc), and on one
// side: a row that is left out is farther for certain. So who computes the distances that remain finds what those of
// all would have told, to the bit.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "common/aligned_buffer.h"
#include "distance/distance.h"

namespace akidb::flat {

class Screen {
 public:
  struct Shape {
    std::size_t dim = 0;
    Metric metric = Metric::kCosine;
    ElementType type = ElementType::kFloat32;  // not kBinary
  };
  // A row that may be near, by its place in the block.
  struct Near {
    float closeness;  // the larger, the nearer it may be; +inf where nothing is known
    std::uint32_t place;
  };
  // What a worker keeps of the block of rows at hand.
  struct Block {
    AlignedBuffer<float> rows;            // kPanelDim elements of each, then the next of each
    AlignedBuffer<float> sums;            // of each panel: row x query
    std::vector<float> values;            // of the row that is loaded
    std::vector<float> floors;            // per query: the closeness below which a row is too far
    std::vector<std::vector<Near>> near;  // per query
  };

  // Up to `queries_max` queries with up to `rows_max` rows at a time. `centre` (dim, or empty for the origin; used by
  // kL2 only) is where lengths are measured from: the nearer it is to rows and queries, the fewer rows stay in doubt.
  Screen(const Kernels& kernels, const Shape& shape, std::vector<float> centre, std::size_t queries_max,
         std::size_t rows_max);

  // Queries and rows are vectors of the type; their inverse norms count under cosine only.
  void set_queries(std::size_t count) { count_ = count; }
  void set_query(std::size_t q, const void* query, float inverse_norm);
  // The closeness of a row at `distance` from query q is no less than this. +inf: there is no such row.
  float floor(std::size_t q, float distance) const;

  Block block() const;
  void begin(Block& block) const;  // of the queries at hand; no row is too far yet
  void set_row(std::size_t place, const void* row, float inverse_norm, Block& block) const;
  // Fills block.near from the first `rows` places. step(i, n) is called before the i-th of n parts of the work.
  template <class Step>
  void find_near(std::size_t rows, Block& block, const Step& step) const;

 private:
  float unfold(const void* vector, float inverse_norm, float* values) const;
  std::size_t panels() const { return (count_ + kernel_.queries - 1) / kernel_.queries; }
  std::size_t chunks() const { return (width_ + kPanelDim - 1) / kPanelDim; }
  std::size_t chunk_dim(std::size_t chunk) const;
  void collect(std::size_t rows, Block& block) const;

  const Kernels& kernels_;
  const PanelKernel kernel_;
  const Shape shape_;
  const std::vector<float> centre_;
  const std::size_t width_;  // of what is multiplied: the dimensions, one more, and zeros
  const std::size_t queries_max_;
  const std::size_t rows_max_;
  const double slack_;
  std::size_t count_ = 0;
  AlignedBuffer<float> panels_;
  std::vector<float> values_;
  std::vector<double> squares_;  // of the queries' lengths
};

template <class Step>
void Screen::find_near(std::size_t rows, Block& block, const Step& step) const {
  const std::size_t groups = (rows + kernel_.rows - 1) / kernel_.rows;
  const std::size_t steps = panels() * chunks() * groups;
  std::size_t done = 0;
  for (std::size_t panel = 0; panel < panels(); ++panel) {
    float* const sums = block.sums.data() + panel * rows_max_ * kernel_.queries;
    std::fill_n(sums, groups * kernel_.rows * kernel_.queries, 0.0F);
    for (std::size_t chunk = 0; chunk < chunks(); ++chunk) {  // of the panel it stays in L1 while the rows pass by
      const float* const queries = panels_.data() + (panel * width_ + chunk * kPanelDim) * kernel_.queries;
      for (std::size_t group = 0; group < groups; ++group) {
        step(done++, steps);
        const std::size_t first = group * kernel_.rows;
        kernel_.add(queries, block.rows.data() + (chunk * rows_max_ + first) * kPanelDim, chunk_dim(chunk),
                    sums + first * kernel_.queries);
      }
    }
  }
  collect(rows, block);
}

}  // namespace akidb::flat
