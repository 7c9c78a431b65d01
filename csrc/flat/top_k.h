// The k nearest of a stream of candidates.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

namespace akidb::flat {

struct Candidate {
  float distance;
  std::int64_t row;

  // Nearer first, equal distances by smaller row: a total order, so
  // the k nearest are one definite set however the rows were split.
  friend bool operator<(const Candidate& a, const Candidate& b) {
    return a.distance != b.distance ? a.distance < b.distance : a.row < b.row;
  }
};

class TopK {
 public:
  explicit TopK(std::size_t k) : k_(k) {}

  // A distance that is not a number is kept as +inf, since the order above would not survive it.
  void offer(float distance, std::int64_t row) {
    if (heap_.size() == k_ && distance > worst_) return;  // the common case, one comparison
    const Candidate candidate{std::isnan(distance) ? std::numeric_limits<float>::infinity() : distance, row};
    if (heap_.size() == k_) {
      replace_worst(candidate);
    } else {
      add(candidate);
    }
  }

  // The same for many. Most lie beyond the k there are, and that is seen of sixteen at a time without a branch each.
  void offer(const float* distances, const std::int64_t* rows, std::size_t count) {
    constexpr std::size_t kStep = 16;
    std::size_t i = 0;
    for (; i < count && heap_.size() < k_; ++i) offer(distances[i], rows[i]);
    for (; i + kStep <= count; i += kStep) {
      unsigned near = 0;
      for (std::size_t j = 0; j < kStep; ++j) near |= static_cast<unsigned>(distances[i + j] <= worst_);
      for (std::size_t j = 0; near != 0 && j < kStep; ++j) offer(distances[i + j], rows[i + j]);
    }
    for (; i < count; ++i) offer(distances[i], rows[i]);
  }

  // What is farther is not among the k.
  float worst() const { return heap_.size() < k_ ? std::numeric_limits<float>::infinity() : worst_; }

  const std::vector<Candidate>& unordered() const { return heap_; }
  void clear() {
    heap_.clear();
    worst_ = -std::numeric_limits<float>::infinity();
  }

 private:
  void add(Candidate candidate) {
    heap_.push_back(candidate);
    std::push_heap(heap_.begin(), heap_.end());
    worst_ = heap_.front().distance;
  }

  void replace_worst(Candidate candidate) {
    if (k_ == 0 || !(candidate < heap_.front())) return;
    std::pop_heap(heap_.begin(), heap_.end());
    heap_.back() = candidate;
    std::push_heap(heap_.begin(), heap_.end());
    worst_ = heap_.front().distance;
  }

  std::size_t k_;
  std::vector<Candidate> heap_;  // the farthest in front
  float worst_ = -std::numeric_limits<float>::infinity();
};

}  // namespace akidb::flat
