// A sealed graph is the same bytes whatever built it: any number of threads, any instruction set, any architecture. The
// checksums below are those of all; a change to the build, the codes or the calibration changes them, on every machine
// alike, and is then a decision.
#include <cstdint>
#include <optional>
#include <random>
#include <vector>

#include "calibration/seal.h"
#include "check.h"
#include "common/aligned_buffer.h"
#include "flat/flat.h"
#include "hnsw/checksum.h"
#include "hnsw/connect.h"
#include "hnsw/insert.h"

using namespace akidb;

namespace {

constexpr std::size_t kCount = 1100;  // three batches

// Numbers of the standard's engines are the same everywhere, those of its distributions are not.
std::vector<float> clustered(std::size_t dim) {
  std::mt19937 random(7);
  const auto number = [&random] { return static_cast<float>(random()) * 0x1p-31F - 1.0F; };
  std::vector<float> centres(12 * dim);
  for (float& value : centres) value = number();
  std::vector<float> out(kCount * dim);
  for (std::size_t i = 0; i < kCount; ++i) {
    const std::size_t cluster = random() % 12;
    for (std::size_t d = 0; d < dim; ++d) out[i * dim + d] = centres[cluster * dim + d] + 0.5F * number();
  }
  return out;
}

struct Golden {
  std::size_t dim;
  Metric metric;
  std::optional<quantization::CodeBits> codes;  // what calibration chooses, if not said
  unsigned ef_construction;                     // from 100 on and with codes to build by, by cells
  std::uint32_t checksum;
};

std::uint32_t checksum(const Golden& golden, unsigned threads) {
  const auto& [dim, metric, codes, ef_construction, expected] = golden;
  const std::vector<float> values = clustered(dim);
  AlignedBuffer<float> norms(kCount);
  flat::inverse_norms(ElementType::kFloat32, values.data(), kCount, dim, threads, norms.data());
  const float* inverse_norms = metric == Metric::kCosine ? norms.data() : nullptr;
  const hnsw::Vectors vectors{ElementType::kFloat32, values.data(), dim * sizeof(float), dim, inverse_norms, metric};
  hnsw::Graph graph({6, ef_construction, 5}, kCount);
  hnsw::build(graph, vectors, 0, kCount, threads, {});
  hnsw::connect(graph, vectors, kCount);
  AlignedBuffer<std::uint8_t> bytes;
  calibration::seal(
      graph, kCount, vectors, codes, threads,
      [&bytes](std::size_t size) {
        bytes = AlignedBuffer<std::uint8_t>(size);
        return bytes.data();
      },
      [] {});
  return hnsw::crc32c(bytes.data(), bytes.size());
}

constexpr Golden kGolden[] = {
    {70, Metric::kL2, std::nullopt, 40, 2515182490},
    {70, Metric::kCosine, std::nullopt, 40, 1236232272},
    {24, Metric::kInnerProduct, std::nullopt, 40, 1370541884},
    {24, Metric::kInnerProduct, quantization::CodeBits::kNone, 40, 2475787704},
    {70, Metric::kL2, std::nullopt, 100, 2636472078},
    {70, Metric::kCosine, std::nullopt, 100, 1582056428},
    {70, Metric::kInnerProduct, std::nullopt, 100, 3313298816},
};

}  // namespace

TEST(a_sealed_graph_is_the_same_bytes_for_any_threads_and_machine) {
#if defined(__x86_64__)
  if (kernels().level == SimdLevel::kScalar) return;  // rounds differently: csrc/distance/README.md
#endif
  for (const Golden& golden : kGolden) {
    CHECK_EQ(golden.checksum, checksum(golden, 3));
    if (golden.metric == Metric::kL2) CHECK_EQ(golden.checksum, checksum(golden, 1));
  }
}
