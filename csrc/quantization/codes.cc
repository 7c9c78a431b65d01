#include "quantization/codes.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "common/thread_pool.h"

namespace akidb::quantization {

namespace {

constexpr std::size_t kCentreRows = 65536;
constexpr std::size_t kBlockRows = 256;  // encoded by a thread at a time

struct Grid {
  float half;    // codes reach from -half to +half, in steps of 1
  float sigmas;  // standard deviations that they cover where a vector's values are normally distributed
};

Grid grid_of(CodeBits bits) { return bits == CodeBits::kFour ? Grid{7.5F, 2.6F} : Grid{127.5F, 4.5F}; }

// Sums in eight parts, in an order of their own: the same on every machine, and not one long chain of additions.
template <class Term>
float sum_of(std::size_t count, const Term& term) {
  float parts[8] = {};
  std::size_t i = 0;
  for (; i + 8 <= count; i += 8) {
    for (std::size_t j = 0; j < 8; ++j) parts[j] += term(i + j);
  }
  for (; i < count; ++i) parts[0] += term(i);
  return ((parts[0] + parts[1]) + (parts[2] + parts[3])) + ((parts[4] + parts[5]) + (parts[6] + parts[7]));
}

float largest_magnitude(const std::vector<float>& values) {
  float parts[8] = {};
  for (std::size_t i = 0; i < values.size(); ++i) parts[i % 8] = std::max(parts[i % 8], std::abs(values[i]));
  return *std::max_element(parts, parts + 8);
}

// What a vector is multiplied with before the centre is taken away. Not the stored inverse norm, whose last bits depend
// on the instruction set.
float length_factor(const CodeShape& shape, const std::vector<float>& vector) {
  if (shape.metric != Metric::kCosine) return 1.0F;
  double parts[4] = {};
  for (std::size_t i = 0; i < shape.dim; ++i) parts[i % 4] += static_cast<double>(vector[i]) * vector[i];
  const double squares = (parts[0] + parts[1]) + (parts[2] + parts[3]);
  return squares > 0.0 ? static_cast<float>(1.0 / std::sqrt(squares)) : 0.0F;
}

// What a thread needs to encode a vector.
class Encoder {
 public:
  explicit Encoder(const CodeShape& shape)
      : shape_(shape), grid_(grid_of(shape.bits)), z_(shape.dim), codes_(shape.dim), best_(shape.dim) {}

  Factors operator()(const float* centre, ElementType type, const void* vector, std::uint8_t* row, float* fine_scale,
                     std::uint8_t* fine_row) {
    decode(type, vector, shape_.dim, z_.data());
    const float length = length_factor(shape_, z_);
    for (std::size_t i = 0; i < shape_.dim; ++i) z_[i] = z_[i] * length - centre[i];
    const float unit = scale_to_unit();
    const float squares = sum_of(shape_.dim, [this](std::size_t i) { return z_[i] * z_[i]; });
    const float product = fit(squares);
    pack(best_, row);
    if (fine_row != nullptr) {
      const float fine_product = refine();
      *fine_scale = fine_product > 0.0F ? squares / fine_product * unit : 0.0F;
      pack(codes_, fine_row);
    }
    return {shape_.metric == Metric::kL2 ? squares * unit * unit : 0.0F,
            product > 0.0F ? squares / product * unit : 0.0F};
  }

 private:
  // Where squares of z's values would leave the range of float, multiplies z with a power of two, which changes no
  // digit. Returns what to multiply lengths of z with to have the true ones.
  float scale_to_unit() {
    const float largest = largest_magnitude(z_);
    if ((largest > 1e-12F && largest < 1e12F) || !(largest > 0.0F) || !std::isfinite(largest)) return 1.0F;
    const int exponent = std::max(std::ilogb(largest), -120);
    for (float& value : z_) value *= std::ldexp(1.0F, -exponent);
    return std::ldexp(1.0F, exponent);
  }

  // Leaves in best_ the codes whose direction is nearest to z's; returns their product with z. The step that serves
  // best lies between covering the largest value and covering the bulk of a normal distribution; from both, the step
  // is fitted to the codes by least squares once.
  float fit(float squares) {
    const float largest = largest_magnitude(z_);
    std::fill(best_.begin(), best_.end(), std::uint8_t{0});
    best_step_ = 0.0F;
    if (!(largest > 0.0F) || !std::isfinite(squares)) return 0.0F;
    const float deviation = std::sqrt(squares / static_cast<float>(shape_.dim));
    const float widest = largest / grid_.half;
    const float narrow = std::min(widest, grid_.sigmas * deviation / grid_.half);
    float best_cosine = 0.0F;
    float best_product = 0.0F;
    for (float step : {widest, narrow}) {
      for (int pass = 0; pass < 2 && step > 0.0F; ++pass) {
        const auto [product, length] = quantize(step);
        const float cosine = product / std::sqrt(length);
        if (product > 0.0F && cosine > best_cosine) {
          best_cosine = cosine;
          best_product = product;
          best_step_ = step;
          best_ = codes_;
        }
        step = product / length;
      }
    }
    return best_product;
  }

  // Leaves in codes_ where in the intervals of best_ z's values lie, in sixteenths; returns the product of z and both.
  float refine() {
    const float inverse = best_step_ > 0.0F ? 1.0F / best_step_ : 0.0F;
    for (std::size_t i = 0; i < shape_.dim; ++i) {
      const float place = (z_[i] * inverse + (grid_.half + 0.5F) - static_cast<float>(best_[i])) * 16.0F;
      codes_[i] = static_cast<std::uint8_t>(place > 0.0F ? std::min(place, 15.0F) : 0.0F);
    }
    const float half = grid_of(CodeBits::kEight).half;
    return sum_of(shape_.dim, [this, half](std::size_t i) {
      return z_[i] * (static_cast<float>(16 * best_[i] + codes_[i]) - half);
    });
  }

  struct Fit {
    float product;  // of z and its codes
    float length;   // of the codes, squared
  };

  Fit quantize(float step) {
    const float inverse = 1.0F / step;
    const float highest = 2.0F * grid_.half;
    for (std::size_t i = 0; i < shape_.dim; ++i) {
      // Rounded by adding a half: no less exact here than rounding to even, and the same instructions everywhere.
      const float position = z_[i] * inverse + (grid_.half + 0.5F);
      codes_[i] = static_cast<std::uint8_t>(position > 0.0F ? std::min(position, highest) : 0.0F);  // 0 for NaN
    }
    const float half = grid_.half;
    const auto value = [this, half](std::size_t i) { return static_cast<float>(codes_[i]) - half; };
    return {sum_of(shape_.dim, [&](std::size_t i) { return z_[i] * value(i); }),
            sum_of(shape_.dim, [&](std::size_t i) { return value(i) * value(i); })};
  }

  void pack(const std::vector<std::uint8_t>& codes, std::uint8_t* out) const {
    if (shape_.bits == CodeBits::kEight) {
      std::memset(out, 0, shape_.padded_dim());
      std::memcpy(out, codes.data(), shape_.dim);
      return;
    }
    constexpr std::size_t kHalf = kCodeBlock / 2;
    std::memset(out, 0, shape_.padded_dim() / 2);
    for (std::size_t i = 0; i < shape_.dim; ++i) {
      std::uint8_t& byte = out[i / kCodeBlock * kHalf + i % kHalf];
      byte = static_cast<std::uint8_t>(byte | (i % kCodeBlock < kHalf ? codes[i] : codes[i] << 4));
    }
  }

  const CodeShape shape_;
  const Grid grid_;
  std::vector<float> z_;
  std::vector<std::uint8_t> codes_;
  std::vector<std::uint8_t> best_;
  float best_step_ = 0.0F;
};

}  // namespace

void find_centre(const CodeShape& shape, const Source& source, std::size_t count, float* centre) {
  std::vector<double> sums(shape.dim, 0.0);
  std::vector<float> vector(shape.dim);
  const std::size_t used = std::min(count, kCentreRows);
  for (std::size_t i = 0; i < used; ++i) {
    decode(source.type, source.vector(i * count / used), shape.dim, vector.data());
    const auto length = static_cast<double>(length_factor(shape, vector));
    for (std::size_t d = 0; d < shape.dim; ++d) sums[d] += static_cast<double>(vector[d]) * length;
  }
  for (std::size_t d = 0; d < shape.dim; ++d)
    centre[d] = used == 0 ? 0.0F : static_cast<float>(sums[d] / static_cast<double>(used));
}

void encode(const CodeShape& shape, const float* centre, const Source& source, std::size_t count, unsigned threads,
            Factors* factors, std::uint8_t* rows, FineCodes fine) {
  const std::size_t blocks = (count + kBlockRows - 1) / kBlockRows;
  ThreadPool::shared().parallel_for(blocks, threads, [&](std::size_t block, unsigned) {
    Encoder encoder(shape);
    for (std::size_t row = block * kBlockRows; row < std::min(count, (block + 1) * kBlockRows); ++row) {
      const bool is_fine = fine.rows != nullptr;
      factors[row] =
          encoder(centre, source.type, source.vector(row), rows + row * shape.row_bytes(),
                  is_fine ? fine.scales + row : nullptr, is_fine ? fine.rows + row * shape.row_bytes() : nullptr);
    }
  });
}

void CodedQuery::prepare(const Codes& codes, ElementType type, const void* point, float inverse_norm) {
  const CodeShape& shape = codes.shape;
  const bool is_l2 = shape.metric == Metric::kL2;
  centred_.resize(shape.dim);
  if (values_.size() < shape.padded_dim()) values_ = AlignedBuffer<std::int8_t>(shape.padded_dim());
  // L2 needs the centred query, since |x - q| = |z - (q - centre)|. A product is split instead: x.q = z.q + centre.q.
  const float length = shape.metric == Metric::kCosine ? inverse_norm : 1.0F;
  decode(type, point, shape.dim, centred_.data());
  for (std::size_t i = 0; i < shape.dim; ++i)
    centred_[i] = is_l2 ? centred_[i] - codes.centre[i] : centred_[i] * length;
  const float largest = largest_magnitude(centred_);
  const float step = largest / 127.0F;
  const float inverse = largest > 0.0F ? 127.0F / largest : 0.0F;
  std::int32_t sum = 0;
  for (std::size_t i = 0; i < shape.dim; ++i) {
    const float scaled = centred_[i] * inverse + (centred_[i] < 0.0F ? -0.5F : 0.5F);
    values_[i] = std::abs(scaled) < 128.0F ? static_cast<std::int8_t>(scaled) : std::int8_t{0};  // 0 for NaN
    sum += values_[i];
  }
  std::fill(values_.begin() + shape.dim, values_.begin() + shape.padded_dim(), std::int8_t{0});
  const float sign = is_l2 ? -2.0F : -1.0F;
  factor_ = sign * step;
  shift_ = sign * step * grid_of(shape.bits).half * static_cast<float>(sum);
  fine_shift_ = sign * step * grid_of(CodeBits::kEight).half * static_cast<float>(sum);
  if (is_l2) {
    offset_ = sum_of(shape.dim, [this](std::size_t i) { return centred_[i] * centred_[i]; });
  } else {
    const float product = sum_of(shape.dim, [&](std::size_t i) { return centred_[i] * codes.centre[i]; });
    offset_ = (shape.metric == Metric::kCosine ? 1.0F : 0.0F) - product;
  }
}

}  // namespace akidb::quantization
