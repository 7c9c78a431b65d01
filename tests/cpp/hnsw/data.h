// Vectors for the graph tests: points around 16 centres, the same for every seed, so that queries of one seed have
// near neighbours among the vectors of another.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <random>
#include <utility>
#include <vector>

#include "hnsw/graph.h"
#include "hnsw/insert.h"
#include "hnsw/vectors.h"

namespace akidb::test {

inline std::vector<float> clustered(std::size_t count, std::size_t dim, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  constexpr std::size_t kClusters = 16;
  std::vector<float> centres(kClusters * dim);
  std::mt19937 fixed(99);
  for (float& value : centres) value = normal(fixed);
  std::vector<float> out(count * dim);
  for (std::size_t i = 0; i < count; ++i) {
    const std::size_t cluster = random() % kClusters;
    for (std::size_t d = 0; d < dim; ++d) out[i * dim + d] = centres[cluster * dim + d] + normal(random);
  }
  return out;
}

inline hnsw::Vectors rows_of(const std::vector<float>& values, std::size_t dim) {
  return {ElementType::kFloat32, values.data(), dim * sizeof(float), dim, nullptr, Metric::kL2};
}

// The k nearest of the first `count` rows by plain comparison, nearest first, ties by smaller row.
inline std::vector<std::int64_t> nearest(const hnsw::Vectors& vectors, std::size_t count, const float* query,
                                         std::size_t k) {
  std::vector<std::pair<float, std::int64_t>> all;
  all.reserve(count);
  for (std::size_t row = 0; row < count; ++row) {
    all.emplace_back(hnsw::Probe(vectors, query, 0.0F)(static_cast<hnsw::Node>(row)), static_cast<std::int64_t>(row));
  }
  std::sort(all.begin(), all.end());
  std::vector<std::int64_t> out;
  for (std::size_t i = 0; i < std::min(k, all.size()); ++i) out.push_back(all[i].second);
  return out;
}

// A graph over such vectors.
struct BuiltGraph {
  BuiltGraph(std::size_t count, std::size_t dim, const hnsw::Params& params, unsigned seed, unsigned threads = 2)
      : values(clustered(count, dim, seed)), vectors(rows_of(values, dim)), graph(params, count) {
    hnsw::build(graph, vectors, 0, count, threads, {});
  }
  std::vector<float> values;
  hnsw::Vectors vectors;
  hnsw::Graph graph;
};

}  // namespace akidb::test
