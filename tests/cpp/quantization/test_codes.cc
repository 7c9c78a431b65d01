// Codes against the vectors they stand for.
//
// What is asked of an estimate: its error against the exact distance, over many pairs, is a small part of the spread of
// the distances. 4-bit codes of normally distributed values lose about 1/90 of a vector's energy (a uniform quantizer
// of 16 levels), 8-bit ones about 1/20,000; a factor of two is left for short vectors.
#include <cmath>
#include <random>
#include <vector>

#include "check.h"
#include "quantization/codes.h"

using namespace akidb;
using namespace akidb::quantization;

namespace {

struct Coded {
  Coded(std::size_t dim, CodeBits bits, Metric metric, const std::vector<float>& values, unsigned threads = 1)
      : shape{dim, bits, metric},
        count(values.size() / dim),
        centre(dim),
        factors(count),
        rows(count * shape.row_bytes(), std::uint8_t{0xEE}),
        fine_scales(bits == CodeBits::kFour ? count : 0),
        fine_rows(bits == CodeBits::kFour ? rows.size() : 0, std::uint8_t{0xEE}) {
    const Source source{ElementType::kFloat32, values.data(), dim * sizeof(float)};
    find_centre(shape, source, count, centre.data());
    FineCodes fine;
    if (bits == CodeBits::kFour) fine = {fine_scales.data(), fine_rows.data()};
    encode(shape, centre.data(), source, count, threads, factors.data(), rows.data(), fine);
  }
  Codes codes() const {
    return {shape, centre.data(), factors.data(), rows.data(), fine_scales.data(), fine_rows.data()};
  }

  CodeShape shape;
  std::size_t count;
  std::vector<float> centre;
  std::vector<Factors> factors;
  std::vector<std::uint8_t> rows;
  std::vector<float> fine_scales;
  std::vector<std::uint8_t> fine_rows;
};

std::vector<float> normal_values(std::size_t count, unsigned seed, float mean) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(mean, 1.0F);
  std::vector<float> out(count);
  for (float& value : out) value = normal(random);
  return out;
}

float estimate(const Codes& codes, const CodedQuery& query, std::size_t row) {
  const auto dot = codes.shape.bits == CodeBits::kFour ? kernels().dot_u4 : kernels().dot_u8;
  return query.distance(codes.factors[row], dot(query.values(), codes.row(row), codes.shape.padded_dim()));
}

float fine_estimate(const Codes& codes, const CodedQuery& query, std::size_t row) {
  const auto dot = [&](const std::uint8_t* of) {
    return kernels().dot_u4(query.values(), of, codes.shape.padded_dim());
  };
  return query.fine_distance(codes.factors[row].base, codes.fine_scales[row],
                             16 * dot(codes.row(row)) + dot(codes.fine_row(row)));
}

float exact(Metric metric, const float* a, const float* b, std::size_t dim) {
  if (metric == Metric::kL2) return kernels().l2(ElementType::kFloat32).single(a, b, dim);
  const float dot = kernels().dot(ElementType::kFloat32).single(a, b, dim);
  return metric == Metric::kInnerProduct ? -dot : cosine_distance(dot, inverse_norm(a, dim), inverse_norm(b, dim));
}

// Standard deviation of the estimates' errors as a share of that of the distances.
double error_share(std::size_t dim, CodeBits bits, Metric metric,
                   float (&estimated)(const Codes&, const CodedQuery&, std::size_t) = estimate) {
  constexpr std::size_t kRows = 400;
  const std::vector<float> values = normal_values(kRows * dim, 7, 0.5F);
  const std::vector<float> queries = normal_values(20 * dim, 8, 0.5F);
  const Coded coded(dim, bits, metric, values);
  double error = 0;
  double sum = 0;
  double squares = 0;
  double samples = 0;
  CodedQuery query;
  for (std::size_t q = 0; q < 20; ++q) {
    const float* point = &queries[q * dim];
    query.prepare(coded.codes(), ElementType::kFloat32, point, inverse_norm(point, dim));
    for (std::size_t row = 0; row < kRows; ++row) {
      const double truth = exact(metric, point, &values[row * dim], dim);
      const double off = estimated(coded.codes(), query, row) - truth;
      error += off * off;
      sum += truth;
      squares += truth * truth;
      samples += 1;
    }
  }
  return std::sqrt(error / samples) / std::sqrt(squares / samples - sum * sum / (samples * samples));
}

}  // namespace

TEST(estimates_are_near_the_distances_for_every_metric) {
  for (const std::size_t dim : {16, 100, 128, 384, 769}) {
    for (const Metric metric : {Metric::kL2, Metric::kInnerProduct, Metric::kCosine}) {
      CHECK(error_share(dim, CodeBits::kFour, metric) < 0.16);
      CHECK(error_share(dim, CodeBits::kEight, metric) < 0.02);
      // A third at most: what a 4-bit code cuts off at the ends of its range, fine codes do not bring back.
      CHECK(error_share(dim, CodeBits::kFour, metric, fine_estimate) < error_share(dim, CodeBits::kFour, metric) / 3);
    }
  }
}

TEST(bytes_depend_on_values_alone) {
  const std::vector<float> values = normal_values(1000 * 70, 9, 0.0F);
  for (const CodeBits bits : {CodeBits::kFour, CodeBits::kEight}) {
    const Coded one(70, bits, Metric::kCosine, values, 1);
    const Coded two(70, bits, Metric::kCosine, values, 2);
    CHECK(one.rows == two.rows);
    CHECK(one.factors == two.factors);
    CHECK(one.fine_scales == two.fine_scales && one.fine_rows == two.fine_rows);
    CHECK_EQ(bits == CodeBits::kFour ? std::size_t{64} : std::size_t{128}, one.shape.row_bytes());
  }
}

TEST(what_pads_a_row_is_zero) {
  const Coded coded(3, CodeBits::kEight, Metric::kL2, {1, 2, 3, 4, 5, 7});
  for (std::size_t row = 0; row < 2; ++row) {
    for (std::size_t i = 3; i < 64; ++i) CHECK_EQ(0, int{coded.codes().row(row)[i]});
  }
}

TEST(a_vector_at_the_centre_has_its_exact_distance) {
  const std::vector<float> same(10 * 5, 2.0F);  // five equal vectors: all of them are the centre
  const Coded coded(10, CodeBits::kFour, Metric::kL2, same);
  const std::vector<float> point(10, 5.0F);
  CodedQuery query;
  query.prepare(coded.codes(), ElementType::kFloat32, point.data(), 0.0F);
  for (std::size_t row = 0; row < 5; ++row) CHECK_EQ(90.0F, estimate(coded.codes(), query, row));
}

TEST(values_at_the_ends_of_float_and_damaged_centres_give_numbers) {
  constexpr float kHuge = 3e38F;
  const std::vector<std::vector<float>> rows = {
      {1e30F, -1e30F, 1e-30F, kHuge, -kHuge, 1.0F}, {1e-38F, 2e-38F, 0, 1e-38F, 2e-38F, 1e-45F}, {0, 0, 0, 0, 0, 0}};
  const std::vector<std::vector<float>> points = {{0, 0, 0}, {kHuge, -kHuge, 1}, {1e-38F, 1e-45F, 0}};
  const std::vector<std::vector<float>> centres = {{NAN, 1, 1}, {INFINITY, -INFINITY, 0}, {-kHuge, kHuge, 0}};
  for (const Metric metric : {Metric::kL2, Metric::kInnerProduct, Metric::kCosine}) {
    for (const auto& values : rows) {
      Coded coded(3, CodeBits::kFour, metric, values);
      for (std::size_t c = 0; c <= centres.size(); ++c) {
        if (c > 0) coded.centre = centres[c - 1];
        for (const auto& point : points) {
          CodedQuery query;
          query.prepare(coded.codes(), ElementType::kFloat32, point.data(), inverse_norm(point.data(), 3));
          for (std::size_t row = 0; row < 2; ++row) CHECK(!std::isnan(estimate(coded.codes(), query, row)));
        }
      }
    }
  }
}

TEST(many_vectors_have_the_distances_that_each_has) {
  const Coded coded(16, CodeBits::kFour, Metric::kL2, normal_values(16 * 37, 3, 0.0F));
  CodedQuery query;
  query.prepare(coded.codes(), ElementType::kFloat32, normal_values(16, 4, 0.0F).data(), 1.0F);
  std::vector<Factors> factors = coded.factors;
  factors[5].base = NAN;
  factors[11].scale = -INFINITY;
  std::vector<std::int32_t> dots(factors.size());
  std::mt19937 random(5);
  for (std::int32_t& dot : dots) dot = static_cast<std::int32_t>(random());
  for (std::size_t count = 0; count <= factors.size(); ++count) {
    std::vector<float> out(count + 1, -7.0F);
    query.distances(factors.data(), dots.data(), count, out.data());
    for (std::size_t i = 0; i < count; ++i) CHECK_EQ(query.distance(factors[i], dots[i]), out[i]);
    CHECK_EQ(-7.0F, out[count]);
  }
}

TEST(short_vectors_are_told_apart_as_long_ones_are) {
  const Coded coded(2, CodeBits::kEight, Metric::kInnerProduct, {1e-25F, 0, -1e-25F, 0});
  const float point[2] = {1, 0};
  CodedQuery query;
  query.prepare(coded.codes(), ElementType::kFloat32, point, 1.0F);
  CHECK(estimate(coded.codes(), query, 0) < 0.0F);
  CHECK(estimate(coded.codes(), query, 1) > 0.0F);
}
