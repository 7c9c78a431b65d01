// The curve a sealed graph carries: what it promises for points from outside, and how ef is read off it.
#include <algorithm>
#include <random>
#include <vector>

#include "calibration/calibrate.h"
#include "calibration/seal.h"
#include "check.h"
#include "common/aligned_buffer.h"
#include "flat/flat.h"
#include "hnsw/insert.h"
#include "hnsw/search.h"
#include "hnsw/serialize.h"

using namespace akidb;
using hnsw::Calibration;

namespace {

constexpr std::size_t kDim = 64;
constexpr std::size_t kCount = 3000;

std::vector<float> values(std::size_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> out(count * kDim);
  for (std::size_t i = 0; i < out.size(); ++i) out[i] = normal(random) / static_cast<float>(1 + i % kDim);
  return out;
}

struct Sealed {
  Sealed()
      : rows(values(kCount, 1)),
        vectors{ElementType::kFloat32, rows.data(), kDim * sizeof(float), kDim, nullptr, Metric::kL2},
        graph({8, 60, 1}, kCount) {
    hnsw::build(graph, vectors, 0, kCount, 2, {});
    calibration::seal(
        graph, kCount, vectors, std::nullopt, 2,
        [this](std::size_t size) {
          bytes = AlignedBuffer<std::uint8_t>(size);
          return bytes.data();
        },
        [] {});
    info = hnsw::read_header(bytes.data(), bytes.size());
    ordered = vectors;
    ordered.order = hnsw::open_order(bytes.data(), info);
  }
  std::vector<float> rows;
  hnsw::Vectors vectors;
  hnsw::Vectors ordered;  // as the sealed graph numbers them
  hnsw::Graph graph;
  AlignedBuffer<std::uint8_t> bytes;
  hnsw::GraphInfo info;
};

double recall_of_outsiders(const Sealed& sealed, std::size_t ef) {
  const std::vector<float> queries = values(300, 2);
  std::vector<std::int64_t> truth(300 * 10);
  std::vector<std::int64_t> found(300 * 10);
  std::vector<float> distances(300 * 10);
  flat::search({sealed.rows.data(), nullptr, kCount, kDim, Metric::kL2}, {queries.data(), 300, 10}, truth.data(),
               distances.data());
  const auto codes = hnsw::open_codes(sealed.bytes.data(), sealed.info);
  hnsw::Request request;
  request.queries = queries.data();
  request.query_count = 300;
  request.k = 10;
  request.ef = ef;
  request.codes = codes ? &*codes : nullptr;
  request.count = kCount;
  hnsw::search(hnsw::open(sealed.bytes.data(), sealed.info), sealed.ordered, request, found.data(), distances.data());
  std::size_t hits = 0;
  for (std::size_t q = 0; q < 300; ++q) {
    for (std::size_t i = 0; i < 10; ++i) hits += std::count(&truth[q * 10], &truth[q * 10] + 10, found[q * 10 + i]);
  }
  return static_cast<double>(hits) / 3000.0;
}

Calibration made_up() {
  Calibration out;
  out.queries = 100;
  for (std::size_t i = 0; i < Calibration::kEfs.size(); ++i) {
    out.recall[0][i] = std::min(0.99F, 0.5F + 0.05F * static_cast<float>(i));
    out.recall[1][i] = std::min(0.98F, 0.1F + 0.09F * static_cast<float>(i));
  }
  return out;
}

}  // namespace

TEST(what_was_measured_holds_for_points_from_outside) {
  const Sealed sealed;
  CHECK(sealed.info.code_bits != quantization::CodeBits::kNone);
  const Calibration measured = hnsw::read_calibration(sealed.bytes.data(), sealed.info);
  CHECK_EQ(200U, measured.queries);
  for (const double target : {0.8, 0.9, 0.95}) {
    CHECK(recall_of_outsiders(sealed, measured.ef_for(10, target)) >= target - 0.02);
  }
  CHECK(measured.ef_for(10, 0.8) < measured.ef_for(10, 0.95));
}

TEST(a_row_left_out_is_neither_found_nor_walked_through) {
  const Sealed sealed;
  const hnsw::GraphView view = hnsw::open(sealed.bytes.data(), sealed.info);
  for (hnsw::Node row = 5; row < kCount; row += 300) {
    hnsw::Request request;
    request.queries = sealed.vectors.row(row);
    request.query_count = 1;
    request.k = 1;
    request.ef = 50;
    request.count = kCount;
    std::int64_t found = -1;
    float distance = 0;
    hnsw::search(view, sealed.ordered, request, &found, &distance);
    CHECK_EQ(std::int64_t{row}, found);
    request.left_out = &row;
    hnsw::search(view, sealed.ordered, request, &found, &distance);
    CHECK(found >= 0 && found != std::int64_t{row});
  }
}

TEST(ef_is_read_off_the_curve) {
  const Calibration curve = made_up();
  CHECK_EQ(std::size_t{10}, curve.ef_for(10, 0.4));
  CHECK_EQ(std::size_t{16}, curve.ef_for(10, 0.55));
  const std::size_t between = curve.ef_for(10, 0.575);
  CHECK(between > 16 && between < 24);
  CHECK_EQ(std::size_t{2048}, curve.ef_for(10, 0.995));
  CHECK(curve.ef_for(30, 0.7) > curve.ef_for(10, 0.7));
  CHECK(curve.ef_for(1000, 0.7) >= 10 * curve.ef_for(100, 0.7) - 10);
  CHECK(curve.ef_for(5000, 0.1) >= 5000);
  Calibration unsure = curve;
  unsure.deviation[0].fill(0.02F);
  CHECK(unsure.ef_for(10, 0.6) > curve.ef_for(10, 0.6));
}

// With ef below k searches keep k, and between 10 and 100 they need more than either end lets expect that is told by a
// smaller ef.
TEST(between_two_k_no_less_is_kept_than_at_both) {
  Calibration curve;
  curve.queries = 200;
  curve.recall[0].fill(0.91F);
  curve.recall[0][0] = 0.8F;
  curve.recall[1].fill(0.95F);  // at every ef, for below 100 all are one search
  CHECK_EQ(std::size_t{16}, curve.ef_for(10, 0.91));
  CHECK_EQ(std::size_t{100}, curve.ef_for(100, 0.91));
  CHECK(curve.ef_for(30, 0.91) > 36);
  CHECK(curve.ef_for(30, 0.91) < 42);
}

// As where searches go over from walking to comparing everything at some ef between 192 and 256.
TEST(a_leap_is_not_read_as_a_slope) {
  Calibration curve;
  curve.queries = 200;
  for (std::size_t i = 0; i < Calibration::kEfs.size(); ++i) {
    const float found = Calibration::kEfs[i] < 256 ? 0.3F + 0.02F * static_cast<float>(i) : 1.0F;
    for (Calibration::Curve& recall : curve.recall) recall[i] = found;
  }
  CHECK_EQ(std::size_t{256}, curve.ef_for(10, 0.5));
  CHECK_EQ(std::size_t{256}, curve.ef_for(10, 0.99));
  CHECK(curve.ef_for(10, 0.35) < 64);
}

TEST(too_few_vectors_are_not_measured) {
  const std::vector<float> rows = values(999, 3);
  const hnsw::Vectors vectors{ElementType::kFloat32, rows.data(), kDim * sizeof(float), kDim, nullptr, Metric::kL2};
  CHECK(calibration::Sample(vectors, 999, 1).empty());
}
