#include "input.h"

#include <algorithm>
#include <cmath>
#include <random>

#include "hnsw/checksum.h"
#include "hnsw/connect.h"
#include "hnsw/insert.h"
#include "hnsw/serialize.h"

extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t size_max);

namespace akidb::fuzz {

namespace {

// Of the header, docs/formats/graph.md
constexpr std::size_t kHeaderBytes = 128;
constexpr std::size_t kBodyCrcAt = 120;
constexpr std::size_t kHeaderCrcAt = 124;

std::vector<std::uint8_t> graph_bytes(Metric metric, std::size_t dim, std::size_t count, int bits) {
  const Data data(count, dim);
  const hnsw::Vectors vectors = data.vectors(dim, metric);
  hnsw::Graph graph({3, 20, 1}, count);
  hnsw::build(graph, vectors, 0, count, 1, {});
  hnsw::connect(graph, vectors, count);
  std::vector<std::uint8_t> out;
  if (bits < 0) {
    out.resize(hnsw::serialized_bytes(graph, count));
    hnsw::serialize(graph, count, metric, dim, out.data());
  } else {
    const auto code_bits = static_cast<quantization::CodeBits>(bits);
    out.resize(hnsw::sealed_bytes(graph, count, dim, code_bits));
    hnsw::seal(graph, hnsw::locality_order(graph, count), vectors, code_bits, 1, out.data());
  }
  out.insert(out.begin(), kParameterBytes, 7);
  return out;
}

const std::vector<std::vector<std::uint8_t>>& seeds() {
  static const std::vector<std::vector<std::uint8_t>> all = {
      graph_bytes(Metric::kL2, 4, 0, -1),   graph_bytes(Metric::kL2, 4, 1, -1),
      graph_bytes(Metric::kL2, 8, 40, -1),  graph_bytes(Metric::kCosine, 70, 30, 4),
      graph_bytes(Metric::kL2, 5, 60, 8),   graph_bytes(Metric::kInnerProduct, 9, 50, 0),
      graph_bytes(Metric::kL2, 6, 400, -1),  // of a size that is walked under filters, where the others are scanned
  };
  return all;
}

void set_checksums(std::uint8_t* graph, std::size_t size) {
  if (size < kHeaderBytes) return;
  const std::uint32_t body = hnsw::crc32c(graph + kHeaderBytes, size - kHeaderBytes);
  std::memcpy(graph + kBodyCrcAt, &body, sizeof body);
  const std::uint32_t header = hnsw::crc32c(graph, kHeaderCrcAt);
  std::memcpy(graph + kHeaderCrcAt, &header, sizeof header);
}

}  // namespace

Data::Data(std::size_t count, std::size_t dim) : values(count * dim), inverse_norms(count) {
  std::mt19937 random(3);
  for (float& value : values) value = static_cast<float>(random() % 2001) / 1000.0F - 1.0F;
  for (std::size_t i = 0; i < count; ++i) inverse_norms[i] = inverse_norm(values.data() + i * dim, dim);
}

std::size_t mutate_graph(std::uint8_t* data, std::size_t size, std::size_t size_max, unsigned seed) {
  if (size < kParameterBytes + kHeaderBytes || seed % 64 == 0) {
    const std::vector<std::uint8_t>& start = seeds()[seed / 64 % seeds().size()];
    if (start.size() > size_max) return size;
    std::copy(start.begin(), start.end(), data);
    size = start.size();
  }
  size = LLVMFuzzerMutate(data, size, size_max);
  if (seed % 8 != 1 && size > kParameterBytes) set_checksums(data + kParameterBytes, size - kParameterBytes);
  return size;
}

}  // namespace akidb::fuzz
