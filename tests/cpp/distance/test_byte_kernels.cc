// Distances of int8, uint8 and binary vectors are sums of integers: every level must give the very number, rounded to
// float32 once, that a plain loop in 64 bits gives; also at the ends of the ranges, and reading nothing beyond.
#include <cstdint>
#include <random>
#include <vector>

#include "check.h"
#include "distance/distance.h"
#include "distance/guarded.h"

using namespace akidb;
using test::GuardedBytes;

namespace {

constexpr ElementType kTypes[] = {ElementType::kInt8, ElementType::kUint8, ElementType::kBinary};
constexpr std::size_t kMost = 65536;

std::vector<std::size_t> dims() {
  std::vector<std::size_t> all;
  for (std::size_t dim = 0; dim <= 300; ++dim) all.push_back(dim);
  for (const std::size_t dim : {511, 512, 767, 768, 1000, 1536, 3072, 4095, 4096, 65536}) all.push_back(dim);
  return all;
}

std::int64_t plain(ElementType type, bool is_l2, const std::uint8_t* a, const std::uint8_t* b, std::size_t dim) {
  std::int64_t sum = 0;
  for (std::size_t i = 0; i < dim; ++i) {
    std::int64_t x = a[type == ElementType::kBinary ? i / 8 : i];
    std::int64_t y = b[type == ElementType::kBinary ? i / 8 : i];
    if (type == ElementType::kBinary) {
      x = x >> (7 - i % 8) & 1;
      y = y >> (7 - i % 8) & 1;
    } else if (type == ElementType::kInt8) {
      x = x < 128 ? x : x - 256;
      y = y < 128 ? y : y - 256;
    }
    sum += is_l2 ? (x - y) * (x - y) : x * y;
  }
  return sum;
}

// Four rows and four queries, by every level and way.
void check_all(ElementType type, const std::uint8_t* const vectors[8], std::size_t dim) {
  const void* rows[4];
  const void* queries[4];
  for (int i = 0; i < 4; ++i) {
    rows[i] = vectors[i];
    queries[i] = vectors[4 + i];
  }
  for (const bool is_l2 : {true, false}) {
    if (!is_l2 && type == ElementType::kBinary) continue;
    float expected[16];
    for (int q = 0; q < 4; ++q) {
      for (int r = 0; r < 4; ++r)
        expected[4 * q + r] = static_cast<float>(plain(type, is_l2, vectors[4 + q], vectors[r], dim));
    }
    for (const SimdLevel simd : kSimdLevels) {
      const Kernels* level = kernels_at(simd);
      if (level == nullptr) continue;
      const Kernel& kernel = is_l2 ? level->l2(type) : level->dot(type);
      float batch[4];
      float tile[16];
      kernel.batch4(queries[1], rows, dim, batch);
      kernel.tile(queries, rows, dim, tile);
      CHECK_EQ(expected[0], kernel.single(queries[0], rows[0], dim));
      CHECK_EQ(expected[0], kernel.single(rows[0], queries[0], dim));
      for (int r = 0; r < 4; ++r) CHECK_EQ(expected[4 + r], batch[r]);
      for (int i = 0; i < 16; ++i) CHECK_EQ(expected[i], tile[i]);
    }
  }
}

// Vectors whose bytes next() gives, each before a guard; bits past dim are zero.
template <class Next>
void check_filled(Next&& next, const std::vector<std::size_t>& sizes) {
  const GuardedBytes memory[8] = {GuardedBytes(kMost), GuardedBytes(kMost), GuardedBytes(kMost), GuardedBytes(kMost),
                                  GuardedBytes(kMost), GuardedBytes(kMost), GuardedBytes(kMost), GuardedBytes(kMost)};
  for (const ElementType type : kTypes) {
    for (const std::size_t dim : sizes) {
      const std::uint8_t* vectors[8];
      for (int v = 0; v < 8; ++v) {
        const std::size_t bytes = vector_bytes(type, dim);
        std::uint8_t* vector = memory[v].last(bytes);
        for (std::size_t i = 0; i < bytes; ++i) vector[i] = next(v);
        if (type == ElementType::kBinary && dim % 8 != 0)
          vector[bytes - 1] = static_cast<std::uint8_t>(vector[bytes - 1] & ~(0xFFU >> dim % 8));
        vectors[v] = vector;
      }
      check_all(type, vectors, dim);
    }
  }
}

}  // namespace

TEST(every_level_gives_the_exact_sum_and_reads_nothing_beyond) {
  std::mt19937 random(47);
  std::uniform_int_distribution<int> byte(0, 255);
  check_filled([&](int) { return static_cast<std::uint8_t>(byte(random)); }, dims());
}

TEST(the_ends_of_the_ranges_do_not_overflow) {
  // 127 and -128, 0 and 255: the largest differences and products of either sign.
  for (const auto& ends : {std::pair{0x7F, 0x80}, std::pair{0x80, 0x80}, std::pair{0, 255}, std::pair{255, 255}}) {
    check_filled([&](int v) { return static_cast<std::uint8_t>(v < 4 ? ends.first : ends.second); },
                 {1, 63, 64, 65, 300, 65536});
  }
}

TEST(decoding_gives_the_values) {
  const std::uint8_t bytes[] = {0x80, 0xFF, 0x01};
  float out[17];
  decode(ElementType::kInt8, bytes, 3, out);
  CHECK(out[0] == -128.0F && out[1] == -1.0F && out[2] == 1.0F);
  decode(ElementType::kUint8, bytes, 3, out);
  CHECK(out[0] == 128.0F && out[1] == 255.0F && out[2] == 1.0F);
  decode(ElementType::kBinary, bytes, 17, out);
  CHECK(out[0] == 1.0F && out[1] == 0.0F && out[8] == 1.0F && out[15] == 1.0F && out[16] == 0.0F);
}
