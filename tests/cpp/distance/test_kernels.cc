// Every level this machine can run, against a sum in double.
//
// The bound. u = 2^-24. A term of dot carries one rounding (none where it is fused), a term of L2 two of its
// subtraction, squared, and one more: at most 3u. A term passes through at most ceil(dim / 32) additions of its partial
// sum, then through the tree over the 32, 5 more. So |error| <= (ceil(dim / 32) + 3 + 5) u * sum |term|, to first
// order; one more u covers the second.
//
// Levels that round a multiply-add once agree to the bit. x86-64's scalar one rounds it twice; small integers make
// every product and sum exact, so there all levels agree.
#include <bit>
#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

#include <sys/mman.h>
#include <unistd.h>

#include "check.h"
#include "distance/distance.h"

using namespace akidb;

namespace {

constexpr double kUnitRoundoff = 1.0 / (1 << 24);
constexpr std::uint64_t kHashOfAll = 17860243514205758212U;
#if defined(__aarch64__)
constexpr bool kScalarFuses = true;
#else
constexpr bool kScalarFuses = false;
#endif

std::vector<std::size_t> dims() {
  std::vector<std::size_t> all;
  for (std::size_t dim = 0; dim <= 300; ++dim) all.push_back(dim);
  for (const std::size_t dim : {383, 384, 385, 511, 767, 768, 769, 1000, 1536, 3072, 4097}) all.push_back(dim);
  return all;
}

std::vector<const Kernels*> levels() {
  std::vector<const Kernels*> all;
  for (const SimdLevel level : kSimdLevels) {
    if (const Kernels* table = kernels_at(level)) all.push_back(table);
  }
  return all;
}

// Floats that end where the readable memory ends: a kernel that reads one byte too many is killed.
class GuardedFloats {
 public:
  explicit GuardedFloats(std::size_t capacity) : capacity_(capacity) {
    const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    readable_ = (capacity * sizeof(float) + page - 1) / page * page;
    mapped_ = readable_ + page;
    base_ = static_cast<char*>(mmap(nullptr, mapped_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    CHECK(base_ != MAP_FAILED);
    CHECK_EQ(0, mprotect(base_ + readable_, page, PROT_NONE));
  }
  GuardedFloats(const GuardedFloats&) = delete;
  GuardedFloats& operator=(const GuardedFloats&) = delete;
  ~GuardedFloats() { munmap(base_, mapped_); }

  // The last dim floats before the guard: aligned to nothing but float, as dim goes through the odd numbers.
  float* last(std::size_t dim) const {
    CHECK(dim <= capacity_);
    return reinterpret_cast<float*>(base_ + readable_) - dim;
  }

 private:
  std::size_t capacity_;
  std::size_t readable_ = 0;
  std::size_t mapped_ = 0;
  char* base_ = nullptr;
};

struct Reference {
  double l2 = 0, dot = 0, dot_magnitude = 0;
};

Reference reference(const float* a, const float* b, std::size_t dim) {
  Reference sums;
  for (std::size_t i = 0; i < dim; ++i) {
    const double x = a[i];
    const double y = b[i];
    sums.l2 += (x - y) * (x - y);
    sums.dot += x * y;
    sums.dot_magnitude += std::abs(x * y);
  }
  return sums;
}

void check_near(double expected, float actual, double bound, const char* level, const char* what, std::size_t dim) {
  if (std::abs(expected - static_cast<double>(actual)) <= bound) return;
  throw test::Failure(std::string(level) + " " + what + " at dim " + std::to_string(dim) + ": expected " +
                      std::to_string(expected) + " +- " + std::to_string(bound) + ", got " + std::to_string(actual));
}

bool same_bits(float a, float b) { return std::bit_cast<std::uint32_t>(a) == std::bit_cast<std::uint32_t>(b); }

}  // namespace

TEST(every_level_is_within_the_bound_and_reads_nothing_beyond) {
  std::mt19937 random(42);
  std::normal_distribution<float> normal;
  const GuardedFloats left(5000);
  const GuardedFloats right(5000);
  for (const std::size_t dim : dims()) {
    float* const a = left.last(dim);
    float* const b = right.last(dim);
    for (std::size_t i = 0; i < dim; ++i) {
      a[i] = normal(random);
      b[i] = normal(random);
    }
    const Reference exact = reference(a, b, dim);
    const std::size_t roundings = (dim + 31) / 32 + 9;
    const double factor = static_cast<double>(roundings) * kUnitRoundoff;
    for (const Kernels* level : levels()) {
      check_near(exact.l2, level->l2(a, b, dim), factor * exact.l2, level->name, "l2", dim);
      check_near(exact.dot, level->dot(a, b, dim), factor * exact.dot_magnitude, level->name, "dot", dim);
    }
  }
}

TEST(small_integers_are_exact_at_every_level) {
  std::mt19937 random(43);
  std::uniform_int_distribution<int> integer(-8, 8);
  std::vector<float> a(4200);
  std::vector<float> b(4200);
  for (float& x : a) x = static_cast<float>(integer(random));
  for (float& x : b) x = static_cast<float>(integer(random));
  for (const std::size_t dim : dims()) {
    for (std::size_t offset = 0; offset < 17; offset += 4 + dim % 3) {
      const Reference exact = reference(a.data() + offset, b.data() + 2 * offset, dim);
      for (const Kernels* level : levels()) {
        CHECK_EQ(static_cast<float>(exact.l2), level->l2(a.data() + offset, b.data() + 2 * offset, dim));
        CHECK_EQ(static_cast<float>(exact.dot), level->dot(a.data() + offset, b.data() + 2 * offset, dim));
      }
    }
  }
}

TEST(a_batch_equals_single_calls_bit_for_bit_and_reads_nothing_beyond) {
  std::mt19937 random(44);
  std::normal_distribution<float> normal;
  const GuardedFloats memory[5] = {GuardedFloats(5000), GuardedFloats(5000), GuardedFloats(5000), GuardedFloats(5000),
                                   GuardedFloats(5000)};
  for (const std::size_t dim : dims()) {
    const float* rows[5];
    for (int r = 0; r < 5; ++r) {
      float* const row = memory[r].last(dim);
      for (std::size_t i = 0; i < dim; ++i) row[i] = normal(random);
      rows[r] = row;
    }
    for (const Kernels* level : levels()) {
      float l2[4];
      float dot[4];
      level->l2_batch4(rows[4], rows, dim, l2);
      level->dot_batch4(rows[4], rows, dim, dot);
      for (int r = 0; r < 4; ++r) {
        CHECK(same_bits(level->l2(rows[4], rows[r], dim), l2[r]));
        CHECK(same_bits(level->dot(rows[4], rows[r], dim), dot[r]));
      }
    }
  }
}

TEST(both_orders_of_arguments_give_the_same_bits) {
  std::mt19937 random(45);
  std::normal_distribution<float> normal;
  std::vector<float> a(768);
  std::vector<float> b(768);
  for (float& x : a) x = normal(random);
  for (float& x : b) x = normal(random);
  for (const std::size_t dim : {1, 7, 100, 768}) {
    for (const Kernels* level : levels()) {
      CHECK(same_bits(level->l2(a.data(), b.data(), dim), level->l2(b.data(), a.data(), dim)));
      CHECK(same_bits(level->dot(a.data(), b.data(), dim), level->dot(b.data(), a.data(), dim)));
      CHECK(same_bits(0.0F, level->l2(a.data(), a.data(), dim)));
    }
  }
}

// The very numbers, too, are those of every other machine: what is built of distances is the same bytes everywhere.
TEST(every_level_that_fuses_gives_the_same_bits) {
  std::mt19937 random(46);  // its numbers are the same everywhere, those of the standard's distributions are not
  std::vector<float> a(5000);
  std::vector<float> b(5000);
  for (float& x : a) x = static_cast<float>(random()) * 0x1p-31F - 1.0F;
  for (float& x : b) x = static_cast<float>(random()) * 0x1p-31F - 1.0F;
  const auto mix = [](std::uint64_t hash, float value) {  // FNV-1a, by words
    return (hash ^ std::bit_cast<std::uint32_t>(value)) * 0x100000001b3U;
  };
  for (const Kernels* level : levels()) {
    if (level->level == SimdLevel::kScalar && !kScalarFuses) continue;
    std::uint64_t hash = 0xcbf29ce484222325U;
    for (const std::size_t dim : dims()) {
      hash = mix(hash, level->l2(a.data(), b.data(), dim));
      hash = mix(hash, level->dot(a.data(), b.data(), dim));
    }
    CHECK_EQ(kHashOfAll, hash);
  }
}

TEST(nan_and_infinity_are_not_lost) {
  for (const std::size_t dim : {1, 5, 33, 130}) {
    for (const std::size_t place : {std::size_t{0}, dim / 2, dim - 1}) {
      std::vector<float> a(dim, 1.0F);
      const std::vector<float> b(dim, 1.0F);
      for (const Kernels* level : levels()) {
        a[place] = std::nanf("");
        CHECK(std::isnan(level->l2(a.data(), b.data(), dim)) && std::isnan(level->dot(a.data(), b.data(), dim)));
        a[place] = INFINITY;
        CHECK(std::isinf(level->l2(a.data(), b.data(), dim)) && std::isinf(level->dot(a.data(), b.data(), dim)));
      }
    }
  }
}

TEST(inverse_norm_over_the_whole_range_of_float) {
  for (const float scale : {1e-38F, 1e-25F, 1e-3F, 1.0F, 1e10F, 1e25F, 1e38F}) {
    for (const std::size_t dim : {1, 3, 50}) {
      const std::vector<float> vector(dim, scale);
      const double expected = 1.0 / (std::sqrt(static_cast<double>(dim)) * static_cast<double>(scale));
      check_near(1.0, static_cast<float>(inverse_norm(vector.data(), dim) / expected), 1e-6, "active", "inverse_norm",
                 dim);
    }
  }
  CHECK_EQ(0.0F, inverse_norm(std::vector<float>(9, 0.0F).data(), 9));
  CHECK_EQ(1.0F, cosine_distance(0.5F, 0.0F, 1.0F));
}
