#include "calibration/calibrate.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "flat/flat.h"
#include "hnsw/search.h"

namespace akidb::calibration {

using hnsw::Calibration;
using hnsw::Node;

namespace {

constexpr std::size_t kQueriesMax = 200;  // a standard error of about 0.5 % at a recall of 0.95
constexpr std::size_t kKMax = Calibration::kKs.back();

}  // namespace

Sample::Sample(const hnsw::Vectors& vectors, std::size_t count, unsigned threads)
    : vectors_(vectors), count_(count), threads_(threads) {
  if (count < Calibration::kCountMin) return;
  const std::size_t size = std::min(kQueriesMax, count / 10);
  for (std::size_t i = 0; i < size; ++i) {
    rows_.push_back(static_cast<Node>((2 * i + 1) * count / (2 * size)));
    const auto* row = static_cast<const std::uint8_t*>(vectors.row(rows_.back()));
    queries_.insert(queries_.end(), row, row + vectors.row_bytes());
  }
  const flat::Rows rows{vectors.data, vectors.inverse_norms, count, vectors.dim, vectors.metric,
                        vectors.type, vectors.stride_bytes};
  flat::Request request;
  request.queries = queries_.data();
  request.query_count = size;
  request.k = kKMax + 1;
  request.threads = threads;
  std::vector<std::int64_t> found(size * request.k);
  std::vector<float> distances(size * request.k);
  flat::search(rows, request, found.data(), distances.data());
  for (std::size_t q = 0; q < size; ++q) {
    for (std::size_t i = 0, taken = 0; i < request.k && taken < kKMax; ++i) {
      if (found[q * request.k + i] == static_cast<std::int64_t>(rows_[q])) continue;
      truth_.push_back(distances[q * request.k + i]);
      ++taken;
    }
  }
}

std::vector<float> Sample::recalls(const hnsw::GraphView& graph, const quantization::Codes* codes, std::size_t k,
                                   std::size_t ef) const {
  hnsw::Request request;
  request.queries = queries_.data();
  request.query_count = rows_.size();
  request.k = k;
  request.ef = ef;
  request.codes = codes;
  request.count = count_;
  request.left_out = rows_.data();
  request.threads = threads_;
  std::vector<std::int64_t> found(rows_.size() * k);
  std::vector<float> distances(rows_.size() * k);
  hnsw::search(graph, vectors_, request, found.data(), distances.data());
  std::vector<float> out;
  for (std::size_t q = 0; q < rows_.size(); ++q) {
    if (vectors_.order.node_of(rows_[q]) == graph.entry().node) continue;
    // By distance, which both searches compute alike to the bit: of equal vectors any will do.
    const float farthest = truth_[q * kKMax + k - 1];
    const auto hits = std::count_if(&distances[q * k], &distances[q * k] + k,
                                    [farthest](float distance) { return distance <= farthest; });
    out.push_back(static_cast<float>(hits) / static_cast<float>(k));
  }
  return out;
}

double Sample::recall(const hnsw::GraphView& graph, const quantization::Codes* codes, std::size_t ef) const {
  const std::vector<float> each = recalls(graph, codes, Calibration::kKs.front(), ef);
  return std::accumulate(each.begin(), each.end(), 0.0) / static_cast<double>(each.size());
}

Calibration Sample::measure(const hnsw::GraphView& graph, const quantization::Codes* codes,
                            const std::function<void()>& pause) const {
  Calibration out;
  out.queries = static_cast<std::uint32_t>(rows_.size());
  if (empty()) return out;
  for (std::size_t i = 0; i < Calibration::kKs.size(); ++i) {
    float best = 0.0F;
    for (std::size_t j = 0; j < Calibration::kEfs.size(); ++j) {
      pause();
      const std::vector<float> each = recalls(graph, codes, Calibration::kKs[i], Calibration::kEfs[j]);
      const auto size = static_cast<float>(each.size());
      const float mean = std::accumulate(each.begin(), each.end(), 0.0F) / size;
      float squares = 0.0F;
      for (const float value : each) squares += (value - mean) * (value - mean);
      best = std::max(best, mean);
      out.recall[i][j] = best;
      out.deviation[i][j] = std::sqrt(squares) / size;
    }
  }
  return out;
}

}  // namespace akidb::calibration
