// What the fuzz targets share: reading parameters off the front of an input, graphs to begin from, and a mutator that
// sets the checksums right, since a wrong one hides all that lies behind it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "common/aligned_buffer.h"
#include "hnsw/vectors.h"

namespace akidb::fuzz {

// The input's first bytes are parameters, in the order in which they are taken; zeros follow its end.
class Input {
 public:
  Input(const std::uint8_t* data, std::size_t size) : left_(data, size) {}

  template <class T>
  T take() {
    T value{};
    const std::size_t bytes = left_.size() < sizeof value ? left_.size() : sizeof value;
    if (bytes > 0) std::memcpy(&value, left_.data(), bytes);
    left_ = left_.subspan(bytes);
    return value;
  }
  // What is left, in memory of exactly that size, so that a read beyond is seen.
  AlignedBuffer<std::uint8_t> rest() const {
    AlignedBuffer<std::uint8_t> out(left_.size());
    if (!left_.empty()) std::memcpy(out.data(), left_.data(), left_.size());
    return out;
  }

 private:
  std::span<const std::uint8_t> left_;
};

constexpr std::size_t kParameterBytes = 8;  // before a graph's bytes, in every target that takes a graph

// `count` vectors, the same every time.
struct Data {
  std::vector<float> values;
  std::vector<float> inverse_norms;

  Data(std::size_t count, std::size_t dim);
  hnsw::Vectors vectors(std::size_t dim, Metric metric) const {
    return {ElementType::kFloat32, values.data(), dim * sizeof(float), dim, inverse_norms.data(), metric};
  }
};

// Whether vectors for a graph that says so are worth making: the sizes of files that there are, and no more.
inline bool is_small(std::size_t count, std::size_t dim) { return count <= 2000 && dim <= 512; }

// Mutates parameters and graph as libFuzzer does, beginning with a whole graph of one of the forms there are, and in
// most cases leaves the checksums right.
std::size_t mutate_graph(std::uint8_t* data, std::size_t size, std::size_t size_max, unsigned seed);

}  // namespace akidb::fuzz
