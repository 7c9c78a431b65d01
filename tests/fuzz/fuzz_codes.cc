// Vectors and codes of any bits: encoding and comparing stay inside what they were given, and no distance is NaN.
#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "hnsw/code_probe.h"
#include "input.h"

using namespace akidb;
using namespace akidb::fuzz;
using quantization::CodeBits;
using quantization::Factors;

namespace {

// The bytes of `from` again and again.
template <class T>
std::vector<T> filled(const AlignedBuffer<std::uint8_t>& from, std::size_t count) {
  std::vector<T> out(count);
  auto* bytes = reinterpret_cast<std::uint8_t*>(out.data());
  for (std::size_t i = 0; from.size() > 0 && i < count * sizeof(T); ++i) bytes[i] = from.data()[i % from.size()];
  return out;
}

void compare(const quantization::Codes& codes, ElementType type, const void* point, std::size_t count) {
  quantization::CodedQuery query;
  const float norm = type == ElementType::kBinary ? 1.0F : inverse_norm(type, point, codes.shape.dim);
  query.prepare(codes, type, point, norm);
  const hnsw::CodeProbe probe(codes, query);
  float distances[4];
  for (hnsw::Node node = 0; node + 4 <= count; node += 4) {
    const hnsw::Node nodes[] = {node, node + 1, node + 2, node + 3};
    probe.four(nodes, distances);
    for (int i = 0; i < 4; ++i) {
      if (std::isnan(distances[i]) || distances[i] != probe(nodes[i])) std::abort();
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Input input(data, size);
  const std::size_t dim = 1 + input.take<std::uint8_t>();
  const CodeBits bits = input.take<std::uint8_t>() % 2 == 0 ? CodeBits::kFour : CodeBits::kEight;
  const auto metric = static_cast<Metric>(input.take<std::uint8_t>() % 3);
  const auto type = static_cast<ElementType>(input.take<std::uint8_t>() % kElementTypes);
  const std::size_t count = 4 + input.take<std::uint8_t>() % 12 / 4 * 4;
  const AlignedBuffer<std::uint8_t> bytes = input.rest();
  const quantization::CodeShape shape{dim, bits, metric};
  const std::size_t row_bytes = vector_bytes(type, dim);
  const auto vectors = filled<std::uint8_t>(bytes, count * row_bytes);

  std::vector<float> centre(dim);
  std::vector<Factors> factors(count);
  std::vector<std::uint8_t> rows(count * shape.row_bytes());
  const quantization::Source source{type, vectors.data(), row_bytes, nullptr};
  quantization::find_centre(shape, source, count, centre.data());
  quantization::encode(shape, centre.data(), source, count, 1, factors.data(), rows.data());
  compare({shape, centre.data(), factors.data(), rows.data()}, type, vectors.data(), count);

  // Codes that no vector has.
  centre = filled<float>(bytes, dim);
  factors = filled<Factors>(bytes, count);
  rows = filled<std::uint8_t>(bytes, rows.size());
  compare({shape, centre.data(), factors.data(), rows.data()}, type, vectors.data(), count);
  return 0;
}
