// Speed of the distance kernels: every operation at every level
// this machine has, over rows that lie in L1, in L2 and in memory.
//   cmake -S . -B build/bench -DAKIDB_BUILD_BENCH=ON && cmake --build build/bench &&
//   build/bench/bench/kernels/bench_kernels
// ns/row is the time per row compared; GB/s counts the bytes of the rows (10^9 bytes per second; the query stays in L1
// and is not counted). Each figure is the best of several runs, since what disturbs a run only ever makes it slower.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <numeric>
#include <random>
#include <vector>

#include "common/aligned_buffer.h"
#include "distance/distance.h"
#include "flat/flat.h"

using namespace akidb;

namespace {

using Clock = std::chrono::steady_clock;

constexpr int kRuns = 7;
constexpr double kRunSeconds = 0.01;

double seconds_since(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }

volatile float sink;  // keeps the calls whose results nobody reads

// Seconds of one call of `pass`, best of kRuns runs of at least kRunSeconds each.
template <class Pass>
double best_seconds(Pass&& pass) {
  pass();
  std::size_t repeats = 1;
  double best = 1e30;
  for (int run = 0; run < kRuns;) {
    const Clock::time_point begin = Clock::now();
    for (std::size_t i = 0; i < repeats; ++i) pass();
    const double elapsed = seconds_since(begin);
    if (elapsed < kRunSeconds) {
      repeats *= 2;
      continue;
    }
    best = std::min(best, elapsed / static_cast<double>(repeats));
    ++run;
  }
  return best;
}

struct Data {
  Data(std::size_t rows_bytes, std::size_t dim_)
      : dim(dim_),
        rows(std::max<std::size_t>(4, rows_bytes / (dim * sizeof(float)) / 4 * 4)),
        values((rows + 1) * dim) {
    std::mt19937 random(1);
    std::uniform_real_distribution<float> uniform(-1, 1);
    for (float& value : values) value = uniform(random);
    order.resize(rows);
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::shuffle(order.begin(), order.end(), random);
  }
  const float* query() const { return values.data() + rows * dim; }
  const float* row(std::size_t i) const {
    return values.data() + order[i] * dim;
  }  // in random order, as a graph visits them

  std::size_t dim;
  std::size_t rows;
  AlignedBuffer<float> values;
  std::vector<std::size_t> order;
};

double single_seconds(const Data& data, const Kernel& kernel) {
  return best_seconds([&] {
    float sum = 0;
    for (std::size_t i = 0; i < data.rows; ++i) sum += kernel.single(data.query(), data.row(i), data.dim);
    sink = sum;
  });
}

double batch_seconds(const Data& data, const Kernel& kernel) {
  return best_seconds([&] {
    float sum = 0;
    for (std::size_t i = 0; i < data.rows; i += 4) {
      const void* const four[4] = {data.row(i), data.row(i + 1), data.row(i + 2), data.row(i + 3)};
      float out[4];
      kernel.batch4(data.query(), four, data.dim, out);
      sum += out[0] + out[1] + out[2] + out[3];
    }
    sink = sum;
  });
}

void print_row(const char* level, const char* operation, const Data& data, const char* place, double seconds) {
  const double rows = static_cast<double>(data.rows);
  const double bytes = rows * static_cast<double>(data.dim * sizeof(float));
  std::printf("%-7s %-11s %5zu  %-7s %9.1f %9.1f\n", level, operation, data.dim, place, seconds / rows * 1e9,
              bytes / seconds / 1e9);
}

void kernels_table() {
  struct Place {
    const char* name;
    std::size_t bytes;
  };
  std::printf("%-7s %-11s %5s  %-7s %9s %9s\n", "level", "operation", "dim", "rows in", "ns/row", "GB/s");
  for (const std::size_t dim : {128, 384, 768}) {
    for (const Place place : {Place{"L1", 16 << 10}, Place{"L2", 512 << 10}, Place{"memory", std::size_t{512} << 20}}) {
      const Data data(place.bytes, dim);
      for (const SimdLevel level : kSimdLevels) {
        const Kernels* table = kernels_at(level);
        if (table == nullptr) continue;
        const Kernel& l2 = table->l2(ElementType::kFloat32);
        const Kernel& dot = table->dot(ElementType::kFloat32);
        print_row(table->name, "l2", data, place.name, single_seconds(data, l2));
        print_row(table->name, "dot", data, place.name, single_seconds(data, dot));
        print_row(table->name, "l2_batch4", data, place.name, batch_seconds(data, l2));
        print_row(table->name, "dot_batch4", data, place.name, batch_seconds(data, dot));
      }
    }
  }
}

void flat_table() {
  constexpr std::size_t kCount = 100'000;
  std::printf("\nexact search, %zu rows, k = 10, level %s\n%5s %8s %8s %12s %9s\n", kCount, kernels().name, "dim",
              "queries", "threads", "queries/s", "GB/s");
  for (const std::size_t dim : {128, 768}) {
    const Data data(kCount * dim * sizeof(float), dim);
    const flat::Rows rows{data.values.data(), nullptr, kCount, dim, Metric::kL2};
    for (const std::size_t queries : {1, 64}) {
      for (const unsigned threads : {1U, 0U}) {
        std::vector<std::int64_t> ids(queries * 10);
        std::vector<float> distances(queries * 10);
        const flat::Request request{.queries = data.values.data(), .query_count = queries, .k = 10, .threads = threads};
        const double seconds = best_seconds([&] { flat::search(rows, request, ids.data(), distances.data()); });
        const double per_second = static_cast<double>(queries) / seconds;
        std::printf("%5zu %8zu %8s %12.0f %9.1f\n", dim, queries, threads == 0 ? "all" : "1", per_second,
                    per_second * static_cast<double>(kCount * dim * sizeof(float)) / 1e9);
      }
    }
  }
}

}  // namespace

int main() {  // NOLINT(bugprone-exception-escape): out of memory may end it
  kernels_table();
  flat_table();
  return 0;
}
