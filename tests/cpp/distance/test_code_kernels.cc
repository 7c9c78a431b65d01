// Dot products with codes are sums of integers: every level must give the very number that a plain loop in 64 bits
// gives, also at the ends of the ranges, and read nothing beyond the codes.
#include <algorithm>
#include <cstdint>
#include <deque>
#include <random>
#include <string>
#include <vector>

#include "check.h"
#include "distance/distance.h"
#include "distance/guarded.h"

using namespace akidb;
using test::GuardedBytes;

namespace {

std::vector<std::size_t> dims() {
  std::vector<std::size_t> all;
  for (std::size_t dim = 0; dim <= 1024; dim += kCodeBlock) all.push_back(dim);
  for (const std::size_t dim : {1536, 3072, 4096, 65536}) all.push_back(dim);
  return all;
}

std::int64_t plain_u8(const std::int8_t* query, const std::uint8_t* codes, std::size_t dim) {
  std::int64_t sum = 0;
  for (std::size_t i = 0; i < dim; ++i) sum += std::int64_t{query[i]} * codes[i];
  return sum;
}

std::int64_t plain_u4(const std::int8_t* query, const std::uint8_t* codes, std::size_t dim) {
  std::int64_t sum = 0;
  for (std::size_t i = 0; i < dim; ++i) {
    const std::uint8_t byte = codes[i / 64 * 32 + i % 32];
    sum += std::int64_t{query[i]} * (i % 64 < 32 ? byte & 15 : byte >> 4);
  }
  return sum;
}

void check_all(const std::int8_t* query, const std::uint8_t* const rows[4], std::size_t dim, bool half) {
  for (const SimdLevel simd : kSimdLevels) {
    const Kernels* level = kernels_at(simd);
    if (level == nullptr) continue;
    std::int32_t batch[4];
    (half ? level->dot_u4_batch4 : level->dot_u8_batch4)(query, rows, dim, batch);
    for (int r = 0; r < 4; ++r) {
      const std::int64_t expected = (half ? plain_u4 : plain_u8)(query, rows[r], dim);
      CHECK_EQ(expected, std::int64_t{(half ? level->dot_u4 : level->dot_u8)(query, rows[r], dim)});
      CHECK_EQ(expected, std::int64_t{batch[r]});
    }
  }
}

struct Panel {
  explicit Panel(std::size_t dim_) : dim(dim_), codes(dim_ * kCodePanel) {
    for (std::size_t q = 0; q < kCodePanelQueries; ++q) queries.emplace_back(dim_);
  }
  void check_all() {
    const std::int8_t* pointers[kCodePanelQueries];
    for (std::size_t q = 0; q < kCodePanelQueries; ++q)
      pointers[q] = reinterpret_cast<const std::int8_t*>(queries[q].last(dim));
    const std::uint8_t* panel = codes.last(dim * kCodePanel);
    for (const SimdLevel simd : kSimdLevels) {
      const Kernels* level = kernels_at(simd);
      if (level == nullptr) continue;
      std::int32_t out[kCodePanelQueries * kCodePanel];
      level->dot_u8_panel(panel, pointers, dim, out);
      for (std::size_t q = 0; q < kCodePanelQueries; ++q) {
        for (std::size_t r = 0; r < kCodePanel; ++r) {
          std::int64_t expected = 0;
          for (std::size_t i = 0; i < dim; ++i)
            expected += std::int64_t{pointers[q][i]} * panel[4 * (kCodePanel * (i / 4) + r) + i % 4];
          CHECK_EQ(expected, std::int64_t{out[q * kCodePanel + r]});
        }
      }
    }
  }
  template <class Next>
  void fill(const Next& next) {
    std::uint8_t* panel = codes.last(dim * kCodePanel);
    for (std::size_t i = 0; i < dim * kCodePanel; ++i) panel[i] = static_cast<std::uint8_t>(next());
    for (const GuardedBytes& query : queries) {
      std::uint8_t* values = query.last(dim);
      for (std::size_t i = 0; i < dim; ++i) values[i] = static_cast<std::uint8_t>(next());
    }
  }

  std::size_t dim;
  GuardedBytes codes;
  std::deque<GuardedBytes> queries;
};

}  // namespace

TEST(every_level_multiplies_panels_exactly_and_reads_nothing_beyond) {
  std::mt19937 random(47);
  std::uniform_int_distribution<int> byte(0, 255);
  for (const std::size_t dim : {0, 64, 128, 192, 320, 768, 4096}) {
    Panel panel(dim);
    panel.fill([&] { return byte(random); });
    panel.check_all();
  }
}

TEST(panels_do_not_overflow_at_the_ends_of_the_ranges) {
  for (const int value : {0x80, 0x7F}) {  // -128 and 127 as bytes of a query
    Panel panel(65536);
    panel.fill([] { return 255; });
    for (const GuardedBytes& query : panel.queries)
      std::fill_n(query.last(panel.dim), panel.dim, static_cast<std::uint8_t>(value));
    panel.check_all();
  }
}

TEST(every_level_gives_the_exact_sum_and_reads_nothing_beyond) {
  std::mt19937 random(46);
  std::uniform_int_distribution<int> byte(0, 255);
  constexpr std::size_t kMost = 65536;
  const GuardedBytes memory[5] = {GuardedBytes(kMost), GuardedBytes(kMost), GuardedBytes(kMost), GuardedBytes(kMost),
                                  GuardedBytes(kMost)};
  for (const std::size_t dim : dims()) {
    for (const bool half : {false, true}) {
      const std::size_t code_bytes = half ? dim / 2 : dim;
      auto* query = reinterpret_cast<std::int8_t*>(memory[4].last(dim));
      for (std::size_t i = 0; i < dim; ++i) query[i] = static_cast<std::int8_t>(byte(random) - 128);
      const std::uint8_t* rows[4];
      for (int r = 0; r < 4; ++r) {
        std::uint8_t* row = memory[r].last(code_bytes);
        for (std::size_t i = 0; i < code_bytes; ++i) row[i] = static_cast<std::uint8_t>(byte(random));
        rows[r] = row;
      }
      check_all(query, rows, dim, half);
    }
  }
}

TEST(the_ends_of_the_ranges_do_not_overflow) {
  for (const std::size_t dim : dims()) {
    for (const int value : {-127, 127}) {
      const std::vector<std::int8_t> query(dim, static_cast<std::int8_t>(value));
      const std::vector<std::uint8_t> codes(dim, 255);
      const std::uint8_t* rows[4] = {codes.data(), codes.data(), codes.data(), codes.data()};
      check_all(query.data(), rows, dim, false);
      check_all(query.data(), rows, dim, true);
    }
  }
}
