// What a graph is built with. Names and limits follow Malkov & Yashunin, "Efficient and robust approximate nearest
// neighbor search using Hierarchical Navigable Small World graphs", arXiv 1603.09320 ("the paper" in this folder).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "common/error.h"
#include "common/mix.h"

namespace akidb::hnsw {

using Node = std::uint32_t;  // number of a vector within one graph, from 0
constexpr Node kNoNode = 0xFFFFFFFFU;
constexpr std::size_t kNodesMax = std::size_t{1} << 31;

constexpr unsigned kMMin = 2;
constexpr unsigned kMMax = 512;
constexpr unsigned kEfMax = 1U << 16;
constexpr unsigned kDimMax = 1U << 16;
// The probability of level 32 is below 2^-32 even at m = 2.
constexpr unsigned kLevelMax = 32;

struct Params {
  unsigned m = 16;                 // links of a node on the levels above 0; 2m on level 0
  unsigned ef_construction = 400;  // candidates kept while looking for a new node's neighbours
  std::uint64_t seed = 0;

  unsigned m0() const { return 2 * m; }

  bool in_range() const { return m >= kMMin && m <= kMMax && ef_construction >= 1 && ef_construction <= kEfMax; }
  void check() const {
    if (in_range()) return;
    if (m < kMMin || m > kMMax) {
      throw_invalid("m is " + std::to_string(m) + ", expected " + std::to_string(kMMin) + " to " +
                    std::to_string(kMMax));
    }
    throw_invalid("ef_construction is " + std::to_string(ef_construction) + ", expected 1 to " +
                  std::to_string(kEfMax));
  }

  // Section 4.1 of the paper: floor(-ln(U) / ln(m)), which is the largest level with U * m^level <= 1. U comes from
  // hashing the node's number and not from a stream of random numbers, so a level depends neither on the order of
  // insertion nor on the number of threads, and room for upper links is known beforehand. Counted in integers, as
  // logarithms differ in their last bits from one C library to the next.
  unsigned level_of(std::uint64_t node) const {
    const std::uint64_t x = mix(seed * 0x9E3779B97F4A7C15ULL + node + 1);
    constexpr std::uint64_t kOne = std::uint64_t{1} << 53;
    static_assert(kOne <= ~std::uint64_t{0} / kMMax);
    std::uint64_t scaled = (x >> 11) + 1;  // U * m^level, of (0, 1]
    unsigned level = 0;
    for (; level < kLevelMax && scaled * m <= kOne; ++level) scaled *= m;
    return level;
  }
};

constexpr std::size_t kScanBlock = 256;  // nodes that a scan compares between two looks at the clock

}  // namespace akidb::hnsw
