#include "hnsw/calibration.h"

#include <algorithm>
#include <cmath>

#include "hnsw/params.h"

namespace akidb::hnsw {

namespace {

// Walks miss less and less. Where from one measured ef to the next next to nothing is left that was missed, searches
// have gone over to comparing everything, at some ef in between: what is found does not rise towards it, but leaps.
bool leaps(double recall_before, double recall_here) {
  constexpr double kShareLeft = 0.125;
  return 1.0 - recall_here < kShareLeft * (1.0 - recall_before);
}

// Of k nearest: a search keeps no fewer candidates, whatever ef is.
double ef_on(std::size_t k, const Calibration::Curve& recall, const Calibration::Curve& deviation, double target) {
  const auto kept = [k](std::size_t i) { return static_cast<double>(std::max<std::size_t>(Calibration::kEfs[i], k)); };
  double before = 0.0;
  for (std::size_t i = 0; i < recall.size(); ++i) {
    const double here = static_cast<double>(recall[i]) - static_cast<double>(deviation[i]);
    if (here >= target) {
      if (i == 0 || leaps(static_cast<double>(recall[i - 1]), static_cast<double>(recall[i]))) return kept(i);
      const double low = std::log(kept(i - 1));
      const double high = std::log(kept(i));
      return std::exp(low + (high - low) * std::clamp((target - before) / (here - before), 0.0, 1.0));
    }
    before = std::max(before, here);
  }
  return 4.0 * Calibration::kEfs.back();
}

}  // namespace

std::size_t Calibration::ef_for(std::size_t k, double target) const {
  const double few = ef_on(kKs[0], recall[0], deviation[0], target);
  const double many = std::max(few, ef_on(kKs[1], recall[1], deviation[1], target));
  // Between the two k by the logarithm of both, beyond them in proportion to k.
  const double between = std::log(static_cast<double>(std::max<std::size_t>(k, kKs[0])) / kKs[0]) /
                         std::log(static_cast<double>(kKs[1]) / kKs[0]);
  const double ef = k <= kKs[1] ? std::exp(std::log(few) + (std::log(many) - std::log(few)) * between)
                                : many * static_cast<double>(k) / kKs[1];
  return std::max(k, static_cast<std::size_t>(std::ceil(std::min<double>(ef, kEfMax) - 1e-6)));
}

}  // namespace akidb::hnsw
