// Short codes of vectors: 4 or 8 bits per dimension, a factor or two per vector. A walk over a graph reads codes, an
// eighth or a quarter of the bytes; the few candidates it ends with are compared exactly.
//
// A vector x becomes z = x - centre (under cosine, x is first scaled to length 1). A code u is that of the interval
// u - 7.5 (or - 127.5) in steps of the vector's own scale, as in LVQ (Aguerrebere et al., arXiv 2304.04759); the scale
// is then set so that z's product with its own code is exact, as in RaBitQ (Gao and Long, arXiv 2405.12497): what is
// left is noise that does not favour far vectors over near ones.
//
// A vector has two factors, base and scale, and a row of codes as distance.h has them. They lie apart, so that a row of
// codes begins on a cache line: 128 codes of 4 bits are one line and not two, and factors are few enough to stay
// cached. The distance from query y, centred as the vectors are and rounded to 8 bits, is offset(y) + base + scale * (y
// . codes * factor(y) - shift(y)).
//
// Codes of 4 bits may have fine codes beside them, which say where in its interval a value lies: 4 bits that continue
// the first, as the second level of LVQ does. Both together are codes of 8 bits with a scale of their own. A walk reads
// the first alone; the few candidates it ends with are told apart by both.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "common/aligned_buffer.h"
#include "distance/distance.h"

namespace akidb::quantization {

// How many bits a code has per dimension.
enum class CodeBits : std::uint32_t { kNone = 0, kFour = 4, kEight = 8 };

struct CodeShape {
  std::size_t dim = 0;
  CodeBits bits = CodeBits::kNone;
  Metric metric = Metric::kCosine;

  std::size_t padded_dim() const { return (dim + kCodeBlock - 1) / kCodeBlock * kCodeBlock; }
  std::size_t row_bytes() const { return padded_dim() * static_cast<std::size_t>(bits) / 8; }
};

struct Factors {
  float base;
  float scale;

  bool operator==(const Factors&) const = default;
};

// Codes of vectors where they lie; not owned.
struct Codes {
  CodeShape shape;
  const float* centre = nullptr;     // dim
  const Factors* factors = nullptr;  // one per vector
  const std::uint8_t* rows = nullptr;
  const float* fine_scales = nullptr;       // one per vector; null: there are no fine codes
  const std::uint8_t* fine_rows = nullptr;  // as rows

  const std::uint8_t* row(std::size_t i) const { return rows + i * shape.row_bytes(); }
  const std::uint8_t* fine_row(std::size_t i) const { return fine_rows + i * shape.row_bytes(); }
};

// Where fine codes of 4-bit codes go: `scales` (count) and `rows` (count x row_bytes). Without, none are made.
struct FineCodes {
  float* scales = nullptr;
  std::uint8_t* rows = nullptr;
};

// Vectors to be encoded by the values of their elements. Where `order` is given, vector i is row order[i].
struct Source {
  ElementType type = ElementType::kFloat32;
  const void* data = nullptr;
  std::size_t stride_bytes = 0;  // from row to row
  const std::uint32_t* order = nullptr;

  const void* vector(std::size_t i) const {
    return static_cast<const std::uint8_t*>(data) + (order == nullptr ? i : order[i]) * stride_bytes;
  }
};

// The mean of evenly spaced rows, 65,536 of them or all, to `centre` (dim).
void find_centre(const CodeShape& shape, const Source& source, std::size_t count, float* centre);

// Encodes `count` vectors to `factors` (count) and `rows` (count x row_bytes), on `threads` threads (0: one per
// processor). The bytes depend on the values alone.
void encode(const CodeShape& shape, const float* centre, const Source& source, std::size_t count, unsigned threads,
            Factors* factors, std::uint8_t* rows, FineCodes fine = {});

// A query made ready for comparing with codes. Kept per thread and reused, so that it allocates only once.
class CodedQuery {
 public:
  // inverse_norm: of the point, used under cosine.
  void prepare(const Codes& codes, ElementType type, const void* point, float inverse_norm);

  const std::int8_t* values() const { return values_.data(); }
  float distance(Factors factors, std::int32_t dot) const;
  // The same of many vectors that lie side by side: out[i] by factors[i] and dots[i].
  void distances(const Factors* factors, const std::int32_t* dots, std::size_t count, float* out) const;
  // By both codes: `dot` is 16 times the product with the first and that with the fine ones.
  float fine_distance(float base, float fine_scale, std::int32_t dot) const;

 private:
  std::vector<float> centred_;
  AlignedBuffer<std::int8_t> values_;
  float offset_ = 0;
  float factor_ = 0;
  float shift_ = 0;
  float fine_shift_ = 0;
};

inline float CodedQuery::distance(Factors factors, std::int32_t dot) const {
  const float distance = offset_ + factors.base + factors.scale * (static_cast<float>(dot) * factor_ - shift_);
  return number(distance);
}

// Copies, since `out` could be part of the query for all that a compiler knows: it takes several vectors at a time.
inline void CodedQuery::distances(const Factors* factors, const std::int32_t* dots, std::size_t count,
                                  float* out) const {
  const float offset = offset_;
  const float factor = factor_;
  const float shift = shift_;
  for (std::size_t i = 0; i < count; ++i) {
    const float distance = offset + factors[i].base + factors[i].scale * (static_cast<float>(dots[i]) * factor - shift);
    out[i] = number(distance);
  }
}

inline float CodedQuery::fine_distance(float base, float fine_scale, std::int32_t dot) const {
  const float distance = offset_ + base + fine_scale * (static_cast<float>(dot) * factor_ - fine_shift_);
  return number(distance);
}

}  // namespace akidb::quantization
