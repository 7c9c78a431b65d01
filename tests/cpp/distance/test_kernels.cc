// Every kernel of floats at every level this machine can run, against a sum in double over the values that the elements
// stand for.
//
// The bound. u = 2^-24. A term of dot carries one rounding (none where it is fused), a term of L2 two of its
// subtraction, squared, and one more: at most 3u. A term passes through at most ceil(dim / 32) additions of its partial
// sum, then through the tree over the 32, 5 more. So |error| <= (ceil(dim / 32) + 3 + 5) u * sum |term|, to first
// order; one more u covers the second. Elements of 16 bits become float32 exactly, so the same holds for them.
//
// Levels that round a multiply-add once agree to the bit. x86-64's scalar one rounds it twice; small integers make
// every product and sum exact, so there all levels agree.
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <random>
#include <vector>

#include "check.h"
#include "distance/distance.h"
#include "distance/guarded.h"

using namespace akidb;
using test::GuardedBytes;

namespace {

constexpr double kUnitRoundoff = 1.0 / (1 << 24);
constexpr std::uint64_t kHashOfAll = 17860243514205758212U;
#if defined(__aarch64__)
constexpr bool kScalarFuses = true;
#else
constexpr bool kScalarFuses = false;
#endif
constexpr ElementType kFloats[] = {ElementType::kFloat32, ElementType::kFloat16, ElementType::kBFloat16};

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

// An element near `value`. Halves are cut off, not rounded: any element serves.
void put(ElementType type, std::uint8_t* vector, std::size_t i, float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  std::uint16_t half = static_cast<std::uint16_t>(bits >> 16);
  if (type == ElementType::kFloat32) {
    std::memcpy(vector + i * sizeof bits, &bits, sizeof bits);
    return;
  }
  if (type == ElementType::kFloat16) {
    const auto exponent = static_cast<int>(bits >> 23 & 0xFFU) - 112;
    const std::uint32_t magnitude = exponent <= 0    ? 0
                                    : exponent >= 31 ? 0x7C00U
                                                     : ((bits & 0x7FFFFFFFU) - (112U << 23)) >> 13;
    half = static_cast<std::uint16_t>((bits >> 16 & 0x8000U) | magnitude);
    if (std::isnan(value)) half = 0x7E00U;
  }
  std::memcpy(vector + i * sizeof half, &half, sizeof half);
}

std::vector<std::uint8_t> encoded(ElementType type, const std::vector<float>& values) {
  std::vector<std::uint8_t> out(vector_bytes(type, values.size()));
  for (std::size_t i = 0; i < values.size(); ++i) put(type, out.data(), i, values[i]);
  return out;
}

struct Reference {
  double l2 = 0, dot = 0, dot_magnitude = 0;
};

Reference reference(ElementType type, const void* a, const void* b, std::size_t dim) {
  std::vector<float> left(dim);
  std::vector<float> right(dim);
  decode(type, a, dim, left.data());
  decode(type, b, dim, right.data());
  Reference sums;
  for (std::size_t i = 0; i < dim; ++i) {
    const double x = left[i];
    const double y = right[i];
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

// The sum over all elements in the order that every level keeps, to the bit.
float in_order(Metric metric, const float* a, const float* b, std::size_t dim) {
  constexpr std::size_t kCount = 32;
  float sums[kCount] = {};
  for (std::size_t i = 0; i < dim; ++i) {
    float& sum = sums[i % kCount];
    const float difference = a[i] - b[i];
    sum = metric == Metric::kL2 ? std::fma(difference, difference, sum) : std::fma(a[i], b[i], sum);
  }
  for (std::size_t half = kCount / 2; half >= 4; half /= 2) {
    for (std::size_t i = 0; i < half; ++i) sums[i] += sums[i + half];
  }
  return (sums[0] + sums[1]) + (sums[2] + sums[3]);
}

bool same_bits(float a, float b) { return std::bit_cast<std::uint32_t>(a) == std::bit_cast<std::uint32_t>(b); }

}  // namespace

TEST(every_level_is_within_the_bound_and_reads_nothing_beyond) {
  std::mt19937 random(42);
  std::normal_distribution<float> normal;
  const GuardedBytes left(20000);
  const GuardedBytes right(20000);
  for (const ElementType type : kFloats) {
    for (const std::size_t dim : dims()) {
      std::uint8_t* const a = left.last(vector_bytes(type, dim));
      std::uint8_t* const b = right.last(vector_bytes(type, dim));
      for (std::size_t i = 0; i < dim; ++i) {
        put(type, a, i, normal(random));
        put(type, b, i, normal(random));
      }
      const Reference exact = reference(type, a, b, dim);
      const std::size_t roundings = (dim + 31) / 32 + 9;
      const double factor = static_cast<double>(roundings) * kUnitRoundoff;
      for (const Kernels* level : levels()) {
        check_near(exact.l2, level->l2(type).single(a, b, dim), factor * exact.l2, level->name, "l2", dim);
        check_near(exact.dot, level->dot(type).single(a, b, dim), factor * exact.dot_magnitude, level->name, "dot",
                   dim);
      }
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
  for (const ElementType type : kFloats) {
    const std::vector<std::uint8_t> left = encoded(type, a);
    const std::vector<std::uint8_t> right = encoded(type, b);
    for (const std::size_t dim : dims()) {
      for (std::size_t offset = 0; offset < 17; offset += 4 + dim % 3) {
        const std::uint8_t* x = left.data() + vector_bytes(type, offset);
        const std::uint8_t* y = right.data() + vector_bytes(type, 2 * offset);
        const Reference exact = reference(type, x, y, dim);
        for (const Kernels* level : levels()) {
          CHECK_EQ(static_cast<float>(exact.l2), level->l2(type).single(x, y, dim));
          CHECK_EQ(static_cast<float>(exact.dot), level->dot(type).single(x, y, dim));
        }
      }
    }
  }
}

TEST(batches_and_tiles_equal_single_calls_bit_for_bit_and_read_nothing_beyond) {
  std::mt19937 random(44);
  std::normal_distribution<float> normal;
  constexpr std::size_t kBytes = 20000;
  const GuardedBytes memory[8] = {GuardedBytes(kBytes), GuardedBytes(kBytes), GuardedBytes(kBytes),
                                  GuardedBytes(kBytes), GuardedBytes(kBytes), GuardedBytes(kBytes),
                                  GuardedBytes(kBytes), GuardedBytes(kBytes)};
  for (const ElementType type : kFloats) {
    for (const std::size_t dim : dims()) {
      const void* vectors[8];
      for (int v = 0; v < 8; ++v) {
        std::uint8_t* const vector = memory[v].last(vector_bytes(type, dim));
        for (std::size_t i = 0; i < dim; ++i) put(type, vector, i, normal(random));
        vectors[v] = vector;
      }
      const void* const* queries = vectors + 4;
      for (const Kernels* level : levels()) {
        for (const Kernel* kernel : {&level->l2(type), &level->dot(type)}) {
          float batch[4];
          float tile[16];
          kernel->batch4(queries[1], vectors, dim, batch);
          kernel->tile(queries, vectors, dim, tile);
          for (int r = 0; r < 4; ++r) {
            CHECK(same_bits(kernel->single(queries[1], vectors[r], dim), batch[r]));
            for (int q = 0; q < 4; ++q) CHECK(same_bits(kernel->single(queries[q], vectors[r], dim), tile[4 * q + r]));
          }
        }
      }
    }
  }
}

TEST(both_orders_of_arguments_give_the_same_bits) {
  std::mt19937 random(45);
  std::normal_distribution<float> normal;
  std::vector<float> values(2 * 768);
  for (float& x : values) x = normal(random);
  for (const ElementType type : kFloats) {
    const std::vector<std::uint8_t> elements = encoded(type, values);
    const std::uint8_t* a = elements.data();
    const std::uint8_t* b = a + vector_bytes(type, 768);
    for (const std::size_t dim : {1, 7, 100, 768}) {
      for (const Kernels* level : levels()) {
        CHECK(same_bits(level->l2(type).single(a, b, dim), level->l2(type).single(b, a, dim)));
        CHECK(same_bits(level->dot(type).single(a, b, dim), level->dot(type).single(b, a, dim)));
        CHECK(same_bits(0.0F, level->l2(type).single(a, a, dim)));
      }
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
      hash = mix(hash, level->l2(ElementType::kFloat32).single(a.data(), b.data(), dim));
      hash = mix(hash, level->dot(ElementType::kFloat32).single(a.data(), b.data(), dim));
    }
    CHECK_EQ(kHashOfAll, hash);
  }
  for (const ElementType type : kFloats) {
    const std::vector<std::uint8_t> left = encoded(type, a);
    const std::vector<std::uint8_t> right = encoded(type, b);
    std::vector<float> x(a.size());
    std::vector<float> y(b.size());
    decode(type, left.data(), x.size(), x.data());
    decode(type, right.data(), y.size(), y.data());
    for (const std::size_t dim : dims()) {
      const float l2 = in_order(Metric::kL2, x.data(), y.data(), dim);
      const float dot = in_order(Metric::kInnerProduct, x.data(), y.data(), dim);
      for (const Kernels* level : levels()) {
        if (level->level == SimdLevel::kScalar && !kScalarFuses) continue;
        CHECK(same_bits(l2, level->l2(type).single(left.data(), right.data(), dim)));
        CHECK(same_bits(dot, level->dot(type).single(left.data(), right.data(), dim)));
      }
    }
  }
}

TEST(nan_and_infinity_are_not_lost) {
  for (const ElementType type : kFloats) {
    for (const std::size_t dim : {1, 5, 33, 130}) {
      const std::vector<std::uint8_t> b = encoded(type, std::vector<float>(dim, 1.0F));
      for (const std::size_t place : {std::size_t{0}, dim / 2, dim - 1}) {
        std::vector<std::uint8_t> a = b;
        for (const Kernels* level : levels()) {
          const Kernel& l2 = level->l2(type);
          const Kernel& dot = level->dot(type);
          put(type, a.data(), place, std::nanf(""));
          CHECK(std::isnan(l2.single(a.data(), b.data(), dim)) && std::isnan(dot.single(a.data(), b.data(), dim)));
          put(type, a.data(), place, INFINITY);
          CHECK(std::isinf(l2.single(a.data(), b.data(), dim)) && std::isinf(dot.single(a.data(), b.data(), dim)));
        }
      }
    }
  }
}

TEST(every_half_is_read_as_what_it_is_at_every_level) {
  // Times one, the dot product is the element: subnormals, signed zeros and all.
  for (std::uint32_t bits = 0; bits < 65536; ++bits) {
    const auto half = static_cast<std::uint16_t>(bits);
    const int exponent = static_cast<int>(bits >> 10 & 31U);
    const auto fraction = static_cast<double>(bits & 1023U);
    if (exponent == 31) continue;
    const double magnitude = exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024 + fraction, exponent - 25);
    const auto expected = static_cast<float>((bits & 0x8000U) != 0 ? -magnitude : magnitude);
    CHECK(same_bits(expected, float_of_half(half)));
    const std::uint16_t one = 0x3C00U;
    for (const Kernels* level : levels()) CHECK_EQ(expected, level->dot(ElementType::kFloat16).single(&half, &one, 1));
  }
}

TEST(every_bfloat_is_read_as_what_it_is_at_every_level) {
  // Also the subnormal ones, which some instructions take for zero: among them, times 2^100, is what tells.
  for (std::uint32_t bits = 0; bits < 65536; ++bits) {
    const auto bfloat = static_cast<std::uint16_t>(bits);
    const float expected = float_of_bfloat(bfloat);
    if (!std::isfinite(expected)) continue;
    const std::uint16_t one = 0x3F80U;
    const std::uint16_t large = 0x7180U;  // 2^100
    const std::uint16_t zero = 0;
    for (const Kernels* level : levels()) {
      CHECK_EQ(expected, level->dot(ElementType::kBFloat16).single(&bfloat, &one, 1));
      CHECK_EQ(expected * 0x1p100F, level->dot(ElementType::kBFloat16).single(&bfloat, &large, 1));
      CHECK_EQ(expected * expected, level->l2(ElementType::kBFloat16).single(&bfloat, &zero, 1));
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
