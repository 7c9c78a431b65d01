// The nearest of many candidates, by buckets of distances of which each holds a few: what compares candidates with each
// other takes a branch that nothing predicts at every step.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "hnsw/candidates.h"

namespace akidb::hnsw {

// Of equal widths, from the least distance of some candidates to the greatest.
class Buckets {
 public:
  static constexpr std::size_t kCount = 512;

  explicit Buckets(std::span<const Candidate> candidates) : count_(candidates.size()) {
    // In turns, for one by one each would wait for the last.
    constexpr std::size_t kTurns = 4;
    float least[kTurns];
    float greatest[kTurns];
    std::fill_n(least, kTurns, std::numeric_limits<float>::infinity());
    std::fill_n(greatest, kTurns, -std::numeric_limits<float>::infinity());
    std::size_t i = 0;
    for (; i + kTurns <= count_; i += kTurns) {
      for (std::size_t turn = 0; turn < kTurns; ++turn) {
        least[turn] = std::min(least[turn], candidates[i + turn].distance);
        greatest[turn] = std::max(greatest[turn], candidates[i + turn].distance);
      }
    }
    for (; i < count_; ++i) {
      least[0] = std::min(least[0], candidates[i].distance);
      greatest[0] = std::max(greatest[0], candidates[i].distance);
    }
    least_ = *std::min_element(least, least + kTurns);
    per_distance_ = static_cast<float>(kCount - 1) / (*std::max_element(greatest, greatest + kTurns) - least_);
  }
  // False where all are equally far or some infinitely, and where they are so few that comparing them is as quick.
  bool pay() const {
    constexpr std::size_t kFew = 32;
    return count_ > kFew && per_distance_ > 0.0F && per_distance_ < std::numeric_limits<float>::infinity();
  }
  std::size_t of(const Candidate& candidate) const {
    return static_cast<std::size_t>((candidate.distance - least_) * per_distance_);
  }

 private:
  std::size_t count_;
  float least_;
  float per_distance_;
};

// The nearest `wanted`, nearest first, in memory that is used again.
inline std::span<const Candidate> sorted_nearest(std::span<const Candidate> candidates, std::size_t wanted,
                                                 std::vector<Candidate>& memory) {
  wanted = std::min(wanted, candidates.size());
  if (memory.size() < candidates.size()) memory.resize(candidates.size());
  Candidate* const out = memory.data();
  const Buckets buckets(candidates);
  if (!buckets.pay()) {
    std::copy(candidates.begin(), candidates.end(), out);
    std::sort(out, out + candidates.size());
    return {out, wanted};
  }
  std::array<std::size_t, Buckets::kCount + 1> next{};  // first how many each bucket holds, one place on
  for (const Candidate& each : candidates) ++next[buckets.of(each) + 1];
  std::size_t used = 0;  // buckets, which hold enough
  while (next[used] < wanted) {
    ++used;
    next[used] += next[used - 1];
  }
  for (const Candidate& each : candidates) {
    const std::size_t bucket = buckets.of(each);
    if (bucket < used) out[next[bucket]++] = each;
  }
  // Of the last bucket, which may hold nearly all where a few lie far out, only what is wanted is sorted.
  if (const std::size_t end = used == 0 ? 0 : next[used - 1]; end > wanted)
    std::nth_element(out + (used == 1 ? 0 : next[used - 2]), out + wanted, out + end);
  for (std::size_t i = 0, begin = 0; i < used; begin = next[i++])
    if (next[i] - begin > 1) std::sort(out + begin, out + std::min(next[i], wanted));
  return {out, wanted};
}

// Moves the nearest `kept`, at least 1 and at most all, to the front, in no order but that the farthest of them is the
// last. What lies behind them is lost.
inline void gather_nearest(std::span<Candidate> candidates, std::size_t kept) {
  const auto place = [&](std::size_t at) { return candidates.begin() + static_cast<std::ptrdiff_t>(at); };
  const Buckets buckets(candidates);
  if (!buckets.pay()) {
    std::nth_element(candidates.begin(), place(kept - 1), candidates.end());
    return;
  }
  std::array<std::uint32_t, Buckets::kCount> held{};
  for (const Candidate& each : candidates) ++held[buckets.of(each)];
  std::size_t last = 0;  // the bucket of the farthest
  for (std::size_t so_far = held[0]; so_far < kept; so_far += held[last]) ++last;
  std::size_t end = 0;
  for (const Candidate each : candidates) {
    candidates[end] = each;
    end += buckets.of(each) <= last ? 1 : 0;
  }
  const auto edge =
      std::partition(candidates.begin(), place(end), [&](const Candidate& each) { return buckets.of(each) < last; });
  std::nth_element(edge, place(kept - 1), place(end));
}

}  // namespace akidb::hnsw
