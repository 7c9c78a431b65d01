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

// Keeps half as many more and cuts them down now and then, where a heap of a thousand takes three times as long.
class TopK {
 public:
  explicit TopK(std::size_t k) : k_(k) { clear(); }

  // A distance that is not a number is kept as +inf, since the order above would not survive it.
  void offer(float distance, std::int64_t row) {
    if (distance > limit_.distance) return;  // the common case, one comparison
    const Candidate candidate{std::isnan(distance) ? std::numeric_limits<float>::infinity() : distance, row};
    if (!(candidate < limit_)) return;  // of equal ones, which may be most, few come first
    held_.push_back(candidate);
    if (held_.size() == k_ + std::max(k_ / 2, kSpare)) cut();
  }

  // The same for many. Most lie beyond the k there are, and that is seen of sixteen at a time without a branch each.
  void offer(const float* distances, const std::int64_t* rows, std::size_t count) {
    constexpr std::size_t kStep = 16;
    std::size_t i = 0;
    for (; i + kStep <= count; i += kStep) {
      unsigned near = 0;
      for (std::size_t j = 0; j < kStep; ++j) near |= static_cast<unsigned>(!(distances[i + j] > limit_.distance));
      for (std::size_t j = 0; near != 0 && j < kStep; ++j) offer(distances[i + j], rows[i + j]);
    }
    for (; i < count; ++i) offer(distances[i], rows[i]);
  }

  // What is farther is not among the k.
  float limit() const { return limit_.distance; }

  // The k nearest, and perhaps others.
  const std::vector<Candidate>& unordered() const { return held_; }
  void clear() {
    held_.clear();
    limit_ = {std::numeric_limits<float>::infinity(), std::numeric_limits<std::int64_t>::max()};
  }

 private:
  static constexpr std::size_t kSpare = 4;  // at the least, so that the k are cut in no more than every fourth offer

  void cut() {
    if (k_ == 0) return held_.clear();
    std::nth_element(held_.begin(), held_.begin() + static_cast<std::ptrdiff_t>(k_ - 1), held_.end());
    held_.resize(k_);
    limit_ = held_.back();
  }

  std::size_t k_;
  std::vector<Candidate> held_;
  Candidate limit_;  // the k-th as of the last cut
};

}  // namespace akidb::flat
