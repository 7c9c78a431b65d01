// Measuring what a search of a sealed graph finds. Above hnsw and flat, since the truth comes from exact search.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "hnsw/calibration.h"
#include "hnsw/graph.h"
#include "hnsw/vectors.h"
#include "quantization/codes.h"

namespace akidb::calibration {

// Vectors that stand for queries, and their true neighbours. Each is left out of its own search: neither found nor
// walked through, as if it had never been inserted, so that what is measured is what a query from outside gets that
// comes from where the vectors come from. Evenly
// spaced rows, and so the same ones every time.
class Sample {
 public:
  // Compares the sample with all `count` vectors. Holds nothing where there are too few to measure.
  Sample(const hnsw::Vectors& vectors, std::size_t count, unsigned threads);

  bool empty() const { return rows_.empty(); }
  // Of the graphs that are measured from here on.
  void use_order(const hnsw::Order& order) { vectors_.order = order; }
  // Recall at every k and ef of Calibration; codes null: of walks over the vectors.
  // pause() is called between walks; what it throws ends the measuring.
  hnsw::Calibration measure(const hnsw::GraphView& graph, const quantization::Codes* codes,
                            const std::function<void()>& pause) const;
  // Mean recall@10 at one ef.
  double recall(const hnsw::GraphView& graph, const quantization::Codes* codes, std::size_t ef) const;

 private:
  std::vector<float> recalls(const hnsw::GraphView& graph, const quantization::Codes* codes, std::size_t k,
                             std::size_t ef) const;  // of each query but the entry point, which every walk begins at

  hnsw::Vectors vectors_;
  std::size_t count_;
  unsigned threads_;
  std::vector<hnsw::Node> rows_;
  std::vector<std::uint8_t> queries_;  // rows_ x row_bytes
  std::vector<float> truth_;           // rows_ x the largest k: the distances of the nearest others, ascending
};

}  // namespace akidb::calibration
