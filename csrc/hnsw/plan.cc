#include "hnsw/plan.h"

#include <algorithm>
#include <cmath>

namespace akidb::hnsw {

namespace {

// Prices in distances of a walk, each of which misses the caches: a scan reads on in memory order. Measured on 100,000
// x 128 and 40,000 x 384, those of large k on 20,000 x 96, 384 and 768.
constexpr double kVectorPrice = 0.4;
constexpr double kBytePrice = 1.0 / 4096;  // more, of vectors where codes are walked, whose distances grow less
constexpr double kReadPrice = 6.0;         // of reading one from a file
constexpr double kMapPrice = 2.0;          // times as much of those that are mapped instead
constexpr std::size_t kManyRead = 256;     // for fewer a file is not mapped
constexpr double kCodePrice = 0.3;
constexpr double kCodePriceScattered = 0.2;
constexpr double kScattered = 1.0 / 16;    // such is the share that passes where order is not asked for
constexpr double kCodePriceInOrder = 0.2;  // of every code, whether its node passes or not
constexpr double kFreshShare = 0.6;        // of a node's m links that lead to nodes not seen before, of 2m in its row
constexpr double kRowPrice = 1.0;          // of asking which of a node's links lead to nodes that pass
constexpr double kAgainPrice = 0.6;        // of comparing a node again, beside that of its vector

constexpr std::size_t kKeptOfOne = 10;  // for one of the k, by a scan of codes
constexpr std::size_t kAgainOfOne = 2;  // compared again after a walk
constexpr double kFarBack = 2.0;
constexpr double kAgainst = 1.5;

}  // namespace

Plan::Plan(const Request& request, const Vectors& vectors, const Passing& passes, unsigned m)
    : k_(request.k),
      ef_(std::max(request.ef, request.k)),
      count_(request.count),
      passing_(passes.total()),
      is_filtered_(request.allowed != nullptr),
      has_codes_(request.codes != nullptr),
      is_mapped_(static_cast<bool>(vectors.file)),
      neighbours_(kFreshShare * m) {
  const auto passing = static_cast<double>(std::max<std::size_t>(passing_, 1));
  const auto count = static_cast<double>(count_);
  share_ = std::min(1.0, passing / count);
  scan_price_ = passing * kVectorPrice;
  if (has_codes_) {
    const double listed = passing * (is_scattered() ? kCodePriceScattered : kCodePrice);
    const double in_order = kCodePriceInOrder * count;
    scans_in_order_ = in_order < listed;
    codes_price_ = std::min(listed, in_order);
    vector_price_ = kVectorPrice + kBytePrice * static_cast<double>(vectors.row_bytes());
    // Not by what is mapped: searches of a file are to find what was measured when it was sealed, in memory.
    scan_price_ = std::min(passing * vector_price_, price_by_codes(1));
  }
  first_width_ = width_for(1.0 / share_);
  const auto rank = static_cast<std::size_t>(static_cast<double>(k_) / share_);
  is_scan_ = scan_is_cheaper(first_width_, passes.everything() ? 0 : reach_for(rank));
}

bool Plan::is_scattered() const { return share_ < kScattered; }

std::size_t Plan::kept(std::size_t times) const { return times * std::max(2 * ef_, kKeptOfOne * k_); }

// Nearly all that are kept are compared again where k is large.
double Plan::price_by_codes(std::size_t times) const {
  return codes_price_ + price_again(std::min(passing_, times * kKeptOfOne * k_));
}

double Plan::price_again(std::size_t compared) const {
  return has_codes_ ? (kAgainPrice + vector_price_) * static_cast<double>(compared) : 0.0;
}

// Of a file's mapping those that are scanned become resident, where the k nearest alone would be read.
bool Plan::vectors_are_cheaper(std::size_t times) const {
  if (!has_codes_) return true;
  const double by_vectors = static_cast<double>(passing_) * vector_price_;
  if (!is_mapped_) return by_vectors < price_by_codes(times);
  return k_ >= kManyRead && kMapPrice * by_vectors < price_by_codes(times) + kReadPrice * static_cast<double>(k_);
}

bool Plan::scan_is_cheaper(std::size_t width, std::size_t reach) const {
  const double beyond = reach > width ? static_cast<double>(reach - width) : 0.0;
  const double walk = neighbours_ * static_cast<double>(width) + (kRowPrice + neighbours_ * share_) * beyond;
  return scan_price_ <= walk + price_again(kAgainOfOne * k_);
}

// The nodes all of whose neighbours a walk compares, where one in `one_in` passes: ef as far as one in twenty does.
// Beyond that the k nearest lie too far back for their neighbours' neighbours to be met. Where points were removed the
// graph was mended around them, and its walks miss more: .011 of recall after ten rounds of replacing half of them.
std::size_t Plan::width_for(double one_in) const {
  constexpr double kOneIn = 20.0;
  const double factor = is_filtered_ ? one_in / kOneIn : one_in;
  const double width = static_cast<double>(ef_) * std::max(1.0, factor);
  return static_cast<std::size_t>(std::min(width, static_cast<double>(std::max(count_, ef_))));
}

// Beyond the k-th half as many again and half of what ef has beyond k, which was enough on data with clusters; or what
// ef has beyond k, grown with the fourth root: without that recall fell by .03 where half passes, ef is wide and
// vectors have no clusters. Where the k-th lies far back, since the nearest do not pass, as many again instead of half:
// with half .946 instead of .972 were found of 100,000 whose 200 nearest are left out, and .916 instead of .971 of
// those whose 400 nearest are.
std::size_t Plan::reach_for(std::size_t rank) const {
  const std::size_t spare = ef_ - k_;
  const auto k = static_cast<double>(std::max<std::size_t>(k_, 1));
  const double factor = std::sqrt(std::sqrt(std::max(1.0, static_cast<double>(rank) / k)));
  const std::size_t beyond = is_far(rank) ? rank + spare : (rank + spare) / 2;
  return rank + std::max(static_cast<std::size_t>(static_cast<double>(spare) * factor), beyond);
}

bool Plan::is_far(std::size_t rank, std::size_t more) const {
  const auto k = static_cast<double>(std::max<std::size_t>(k_, 1));
  return share_ * static_cast<double>(rank) > kFarBack * k + static_cast<double>(more);
}

bool Plan::is_against(std::size_t passing, std::size_t met) const {
  return kAgainst * static_cast<double>(passing) < share_ * static_cast<double>(met);
}

}  // namespace akidb::hnsw
