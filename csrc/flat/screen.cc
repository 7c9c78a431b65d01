// The bound. u = 2^-24; x and y are the values of a row and a query, under cosine each multiplied with its stored
// inverse norm; |x| is the length of x. A product of two vectors takes kPanelDim terms into a sum at most, each rounded
// twice at the most, and adds as many sums as there are chunks: it errs by g (sum |x_i y_i| + |last term|), g = (2
// kPanelDim + chunks + 2) u. Kernels of distances err by e times the sum of the magnitudes of their terms, e =
// (ceil(dim / 32) + 9) u (distance/README.md). sum |x_i y_i| <= |x| |y| <= (|x|^2 + |y|^2) / 2.
//
// Each vector has one element more, which moves the product x.y to where it is on the safe side:
//
// - dot and cosine: row C |x|, query |y|. The closeness is x.y + C |x| |y| - g (|x| |y| + ...) and so no less than what
//   the kernel makes of x.y, if C >= e + g and the roundings of C |x| and |y|. Cosine multiplies by two inverse norms,
//   after the kernel here and before there: 5 u |x| |y|, and rounds the difference from 1, for which floor() allows.
// - L2: row -(1 - C) |x|^2 / 2, query 1. A kernel's distance d is |x|^2 + |y|^2 - 2 x.y but for e d, so a row at d or
//   nearer has x.y >= (|x|^2 + |y|^2 - (1 + 2 e) d) / 2, and its closeness is no less than ((1 - C) |y|^2 - (1 + 2 e)
//   d) / 2, if C covers e, which the two squares err by, 2 g, and 7 u: of roundings, and of moving all vectors by one
//   centre.
//
// C is 1.1 (e + 2.2 g + 8 u) for all three. Lengths are taken a ten-thousandth longer, which covers their own error,
// and 1e-13 longer, which covers what underflow takes from any sum: 65,536 times 2^-126 at the most. Where squares
// might overflow, the row's or the query's last element is NaN, and what is not a number is not too far.
#include "flat/screen.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <utility>

namespace akidb::flat {

namespace {

constexpr double kUnitRoundoff = 0x1p-24;
constexpr float kLeastLength = 1e-13F;
constexpr float kMostSquares = 1e36F;      // their sums and products stay finite
constexpr float kMostInverseNorm = 1e12F;  // and its inverse: products with it lose nothing to underflow
constexpr float kUnknown = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

double slack_of(std::size_t dim) {
  const double chunks = std::ceil(static_cast<double>(dim + 1) / static_cast<double>(kPanelDim));
  const double of_product = (2.0 * static_cast<double>(kPanelDim) + chunks + 2.0) * kUnitRoundoff;
  const double of_kernel = (std::ceil(static_cast<double>(dim) / 32.0) + 9.0) * kUnitRoundoff;
  return 1.1 * (of_kernel + 2.2 * of_product + 8.0 * kUnitRoundoff);
}

// No less than the length of which this is the square, as computed.
float most_length(float squares) { return std::sqrt(squares) * 1.0001F + kLeastLength; }

}  // namespace

Screen::Screen(const Kernels& kernels, const Shape& shape, std::vector<float> centre, std::size_t queries_max,
               std::size_t rows_max)
    : kernels_(kernels),
      kernel_(kernels.panels),
      shape_(shape),
      centre_(std::move(centre)),
      width_((shape.dim + kPanelStep) / kPanelStep * kPanelStep),
      queries_max_((queries_max + kernel_.queries - 1) / kernel_.queries * kernel_.queries),
      rows_max_((rows_max + kernel_.rows - 1) / kernel_.rows * kernel_.rows),
      slack_(slack_of(shape.dim)),
      panels_(queries_max_ * width_),
      values_(shape.dim),
      squares_(queries_max_) {}

std::size_t Screen::chunk_dim(std::size_t chunk) const { return std::min(kPanelDim, width_ - chunk * kPanelDim); }

// The values of a vector; returns the square of its length, or NaN where the bound does not hold.
float Screen::unfold(const void* vector, float inverse_norm, float* values) const {
  const auto* from = static_cast<const float*>(vector);
  if (shape_.type != ElementType::kFloat32) {
    decode(shape_.type, vector, shape_.dim, values);
    from = values;
  }
  bool is_safe = true;
  if (shape_.metric == Metric::kCosine) {
    is_safe = inverse_norm <= kMostInverseNorm && inverse_norm >= 1.0F / kMostInverseNorm;
    for (std::size_t i = 0; i < shape_.dim; ++i) values[i] = from[i] * inverse_norm;
  } else if (shape_.metric == Metric::kL2 && !centre_.empty()) {
    for (std::size_t i = 0; i < shape_.dim; ++i) values[i] = from[i] - centre_[i];
  } else if (from != values) {
    std::memcpy(values, from, shape_.dim * sizeof(float));
  }
  const float squares = kernels_.dot(ElementType::kFloat32).single(values, values, shape_.dim);
  // Stored inverse norms may be any number; those of the vectors make the squares 1.
  const float most = shape_.metric == Metric::kCosine ? 4.0F : kMostSquares;
  return is_safe && squares <= most ? squares : kUnknown;
}

void Screen::set_query(std::size_t q, const void* query, float inverse_norm) {
  const float squares = unfold(query, inverse_norm, values_.data());
  float* const to = panels_.data() + q / kernel_.queries * width_ * kernel_.queries + q % kernel_.queries;
  for (std::size_t i = 0; i < shape_.dim; ++i) to[i * kernel_.queries] = values_[i];
  const float last = shape_.metric == Metric::kL2 ? 1.0F : most_length(squares);
  to[shape_.dim * kernel_.queries] = std::isnan(squares) ? kUnknown : last;
  squares_[q] = static_cast<double>(squares);
}

float Screen::floor(std::size_t q, float distance) const {
  const auto most = static_cast<double>(distance);
  switch (shape_.metric) {
    case Metric::kInnerProduct:
      return -distance;
    case Metric::kCosine:
      return static_cast<float>(1.0 - most - 4.0 * kUnitRoundoff * (1.0 + std::abs(most)));
    case Metric::kL2:
      break;
  }
  const double farthest = most * (1.0 + 2.0 * slack_) + 1e-30;
  return static_cast<float>(((1.0 - slack_) * squares_[q] - farthest) / 2.0);
}

Screen::Block Screen::block() const {
  Block block;
  block.rows = AlignedBuffer<float>(chunks() * rows_max_ * kPanelDim);
  block.sums = AlignedBuffer<float>(queries_max_ * rows_max_);
  block.values.resize(shape_.dim);
  block.floors.resize(queries_max_);
  block.near.resize(queries_max_);
  return block;
}

void Screen::begin(Block& block) const {
  // Queries that only fill up a panel find nothing.
  std::fill(block.floors.begin(), block.floors.end(), kInfinity);
  std::fill_n(block.floors.begin(), count_, -kInfinity);
}

void Screen::set_row(std::size_t place, const void* row, float inverse_norm, Block& block) const {
  float* const values = block.values.data();
  const float squares = unfold(row, inverse_norm, values);
  const std::size_t stride = rows_max_ * kPanelDim;
  float* const to = block.rows.data() + place * kPanelDim;
  for (std::size_t i = 0; i < shape_.dim; i += kPanelDim)
    std::memcpy(to + i / kPanelDim * stride, values + i, std::min(kPanelDim, shape_.dim - i) * sizeof(float));
  const auto slack = static_cast<float>(slack_);
  to[shape_.dim / kPanelDim * stride + shape_.dim % kPanelDim] =
      shape_.metric == Metric::kL2 ? (1.0F - slack) * squares * -0.5F : slack * most_length(squares);
}

// Rows by rows, since most have nothing near any query, which is seen of a panel at a time without a branch each.
void Screen::collect(std::size_t rows, Block& block) const {
  const std::size_t width = kernel_.queries;
  for (std::size_t first = 0; first < count_; first += width) {
    const float* const floors = block.floors.data() + first;
    const float* sums = block.sums.data() + first * rows_max_;
    const std::size_t queries = std::min(width, count_ - first);
    for (std::size_t row = 0; row < rows; ++row, sums += width) {
      unsigned near = 0;
      for (std::size_t q = 0; q < width; ++q) near |= static_cast<unsigned>(!(sums[q] < floors[q]));
      for (std::size_t q = 0; near != 0 && q < queries; ++q) {
        if (sums[q] < floors[q]) continue;
        const float closeness = std::isnan(sums[q]) ? kInfinity : sums[q];
        block.near[first + q].push_back({closeness, static_cast<std::uint32_t>(row)});
      }
    }
  }
}

}  // namespace akidb::flat
