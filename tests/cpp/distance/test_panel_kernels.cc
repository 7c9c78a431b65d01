// Products of panels at every level, against sums in double. A term is rounded twice at the most, and passes through as
// many additions as there are terms, then through one more: |error| <= (2 dim + 1) u * sum |term|, u = 2^-24.
#include <cmath>
#include <random>
#include <vector>

#include "check.h"
#include "distance/distance.h"
#include "distance/guarded.h"

using namespace akidb;
using test::GuardedBytes;

namespace {

struct Operands {
  explicit Operands(const PanelKernel& kernel, std::size_t dim)
      : panel_bytes(dim * kernel.queries * sizeof(float)),
        row_bytes(dim == 0 ? 0 : ((kernel.rows - 1) * kPanelDim + dim) * sizeof(float)),
        panel_memory(panel_bytes),
        row_memory(row_bytes),
        panel(reinterpret_cast<float*>(panel_memory.last(panel_bytes))),
        rows(reinterpret_cast<float*>(row_memory.last(row_bytes))) {}

  std::size_t panel_bytes, row_bytes;
  GuardedBytes panel_memory, row_memory;
  float* panel;
  float* rows;
};

template <class Draw>
void check_level(const Kernels& level, std::size_t dim, double bound, const Draw& draw) {
  const PanelKernel& kernel = level.panels;
  const Operands with(kernel, dim);
  for (std::size_t i = 0; i < with.panel_bytes / sizeof(float); ++i) with.panel[i] = draw();
  for (std::size_t i = 0; i < with.row_bytes / sizeof(float); ++i) with.rows[i] = draw();
  std::vector<float> before(kernel.rows * kernel.queries);
  for (float& sum : before) sum = draw();
  std::vector<float> sums = before;
  kernel.add(with.panel, with.rows, dim, sums.data());
  for (std::size_t r = 0; r < kernel.rows; ++r) {
    for (std::size_t q = 0; q < kernel.queries; ++q) {
      const std::size_t at = r * kernel.queries + q;
      double sum = static_cast<double>(before[at]);
      double magnitude = std::abs(sum);
      for (std::size_t i = 0; i < dim; ++i) {
        const double term = static_cast<double>(with.panel[i * kernel.queries + q]) * with.rows[r * kPanelDim + i];
        sum += term;
        magnitude += std::abs(term);
      }
      CHECK(std::abs(sum - static_cast<double>(sums[at])) <= bound * magnitude);
    }
  }
}

template <class Check>
void for_each_level(const Check& check) {
  for (const SimdLevel simd : kSimdLevels) {
    if (const Kernels* level = kernels_at(simd)) check(*level);
  }
}

}  // namespace

TEST(every_level_is_within_the_bound_and_reads_nothing_beyond) {
  std::mt19937 random(47);
  std::normal_distribution<float> normal;
  for_each_level([&](const Kernels& level) {
    for (std::size_t dim = 0; dim <= kPanelDim; dim += kPanelStep) {
      const double bound = static_cast<double>(2 * dim + 1) / (1 << 24);
      check_level(level, dim, bound, [&] { return normal(random); });
    }
  });
}

TEST(small_integers_are_exact_at_every_level) {
  std::mt19937 random(48);
  std::uniform_int_distribution<int> integer(-8, 8);
  for_each_level([&](const Kernels& level) {
    for (const std::size_t dim : {4, 20, 128}) {
      check_level(level, dim, 0.0, [&] { return static_cast<float>(integer(random)); });
    }
  });
}
