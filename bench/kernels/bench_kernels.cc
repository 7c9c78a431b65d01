// Speed of every kernel at every level this machine has, over rows that lie in L1, in L2 and in memory, there in order,
// as exact search reads them, and scattered, as a graph visits them.
//   bench_kernels [WORD...]   only the lines that have all of these words, as in: bench_kernels int8 memory
// ns/row is the time per row compared; of a tile, a row is compared with four queries in it, of a panel with as many as
// are in one (32 by AVX-512, 8 by NEON), in order. GB/s counts the bytes of
// the rows (10^9 bytes per second; queries stay in L1 and are not counted), share is theirs of the speed at which one
// thread reads memory in order. Scattered rows shorter than a cache line cost a whole one. Each figure is the best of
// several runs, since what disturbs a run only ever makes it slower.
#include <algorithm>
#include <bit>
#include <chrono>
#include <cstdio>
#include <functional>
#include <numeric>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "common/aligned_buffer.h"
#include "distance/distance.h"

using namespace akidb;

namespace {

using Clock = std::chrono::steady_clock;

constexpr int kRuns = 5;
constexpr double kRunSeconds = 0.01;
constexpr std::size_t kMemoryBytes = std::size_t{256} << 20;  // more than any cache holds

struct Place {
  const char* name;
  std::size_t bytes;
  bool is_memory;
  bool scattered;
};
constexpr Place kPlaces[] = {{"L1", 16 << 10, false, false},
                             {"L2", 256 << 10, false, false},
                             {"memory", kMemoryBytes, true, false},
                             {"scattered", kMemoryBytes, true, true}};

double seconds_since(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }

volatile std::uint64_t sink;  // keeps a sum that nobody reads

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

// Bytes from 0x30 to 0x3F, which are ordinary numbers of every type: no NaN, no subnormal.
AlignedBuffer<std::uint64_t> ordinary_numbers() {
  AlignedBuffer<std::uint64_t> out(kMemoryBytes / sizeof(std::uint64_t));
  std::mt19937_64 random(1);
  for (std::uint64_t& eight : out) eight = (random() & 0x0F0F0F0F0F0F0F0FU) | 0x3030303030303030U;
  return out;
}

// In as many sums as it takes not to wait for one.
void read_all(const AlignedBuffer<std::uint64_t>& numbers) {
  constexpr std::size_t kSums = 16;
  std::uint64_t sums[kSums] = {};
  for (std::size_t i = 0; i < numbers.size(); i += kSums) {
    for (std::size_t j = 0; j < kSums; ++j) sums[j] += numbers[i + j];
  }
  sink = std::accumulate(std::begin(sums), std::end(sums), std::uint64_t{0});
}

// A power of two of rows of one size.
class Rows {
 public:
  Rows(const std::uint64_t* from, const Place& place, std::size_t row_bytes, std::size_t dim_)
      : dim(dim_),
        count(std::max(std::bit_floor(place.bytes / row_bytes), kTileSide)),
        queries_(reinterpret_cast<const std::uint8_t*>(from)),
        row_bytes_(row_bytes),
        step_(place.scattered ? 0x9E3779B97F4A7C15U : 1) {}

  const std::uint8_t* query(std::size_t i) const { return queries_ + i * 4 * dim; }
  // An odd step goes through all of a power of two, and a large one where no prefetcher follows.
  const std::uint8_t* row(std::size_t i) const { return queries_ + (i * step_ & (count - 1)) * row_bytes_; }

  std::size_t dim;
  std::size_t count;

 private:
  const std::uint8_t* queries_;
  std::size_t row_bytes_;
  std::size_t step_;
};

struct Operation {
  std::string type;
  std::string name;
  std::size_t bits;                                       // of an element in a row
  std::function<void(const Kernels&, const Rows&)> pass;  // over all rows
};

template <class Call>
void by_fours(const Rows& rows, Call&& call) {
  for (std::size_t i = 0; i < rows.count; i += 4) {
    const std::uint8_t* const four[4] = {rows.row(i), rows.row(i + 1), rows.row(i + 2), rows.row(i + 3)};
    call(four);
  }
}

void add_vectors(std::vector<Operation>& out, const char* word, ElementType type, Metric metric) {
  const std::string name = metric == Metric::kL2 ? "l2" : "dot";
  const std::size_t bits = vector_bytes(type, 8);
  out.push_back({word, name, bits, [=](const Kernels& kernels, const Rows& rows) {
                   const auto single = kernels.of(type, metric).single;
                   for (std::size_t i = 0; i < rows.count; ++i) single(rows.query(0), rows.row(i), rows.dim);
                 }});
  out.push_back({word, name + "_batch4", bits, [=](const Kernels& kernels, const Rows& rows) {
                   const auto batch4 = kernels.of(type, metric).batch4;
                   by_fours(rows, [&](const std::uint8_t* const four[4]) {
                     const void* const of_four[4] = {four[0], four[1], four[2], four[3]};
                     float distances[4];
                     batch4(rows.query(0), of_four, rows.dim, distances);
                   });
                 }});
  out.push_back({word, name + "_tile", bits, [=](const Kernels& kernels, const Rows& rows) {
                   const auto tile = kernels.of(type, metric).tile;
                   const void* const queries[4] = {rows.query(0), rows.query(1), rows.query(2), rows.query(3)};
                   by_fours(rows, [&](const std::uint8_t* const four[4]) {
                     const void* const of_four[4] = {four[0], four[1], four[2], four[3]};
                     float distances[kTileSide * kTileSide];
                     tile(queries, of_four, rows.dim, distances);
                   });
                 }});
}

// Every query of a panel with every row. Rows lie as a panel wants them, and are gone through once for each of their
// parts of kPanelDim elements.
void add_panels(std::vector<Operation>& out) {
  out.push_back({"float32", "panel", 32, [](const Kernels& kernels, const Rows& rows) {
                   const PanelKernel& kernel = kernels.panels;
                   const auto* queries = reinterpret_cast<const float*>(rows.query(0));
                   const std::size_t parts = rows.count * rows.dim / kPanelDim;
                   std::vector<float> sums(kernel.rows * kernel.queries);
                   for (std::size_t i = 0; i + kernel.rows <= parts; i += kernel.rows)
                     kernel.add(queries, queries + i * kPanelDim, kPanelDim, sums.data());
                 }});
}

template <class Single, class Batch4>
void add_codes(std::vector<Operation>& out, const char* word, std::size_t bits, Single Kernels::* single,
               Batch4 Kernels::* batch4) {
  const auto query = [](const Rows& rows) { return reinterpret_cast<const std::int8_t*>(rows.query(0)); };
  out.push_back({word, "dot", bits, [=](const Kernels& kernels, const Rows& rows) {
                   for (std::size_t i = 0; i < rows.count; ++i) (kernels.*single)(query(rows), rows.row(i), rows.dim);
                 }});
  out.push_back({word, "dot_batch4", bits, [=](const Kernels& kernels, const Rows& rows) {
                   by_fours(rows, [&](const std::uint8_t* const four[4]) {
                     std::int32_t products[4];
                     (kernels.*batch4)(query(rows), four, rows.dim, products);
                   });
                 }});
}

std::vector<Operation> operations() {
  std::vector<Operation> out;
  constexpr const char* kTypeWords[kElementTypes] = {"float32", "float16", "bfloat16", "int8", "uint8", "binary"};
  for (std::size_t type = 0; type < kElementTypes; ++type) {
    for (const Metric metric : {Metric::kL2, Metric::kInnerProduct}) {
      if (static_cast<ElementType>(type) == ElementType::kBinary && metric != Metric::kL2) continue;
      add_vectors(out, kTypeWords[type], static_cast<ElementType>(type), metric);
    }
  }
  add_panels(out);
  add_codes(out, "code8", 8, &Kernels::dot_u8, &Kernels::dot_u8_batch4);
  add_codes(out, "code4", 4, &Kernels::dot_u4, &Kernels::dot_u4_batch4);
  return out;
}

// Lines printed. Only those that have all of `words`.
int print_table(const std::vector<std::string_view>& words) {
  const AlignedBuffer<std::uint64_t> numbers = ordinary_numbers();
  const double read = static_cast<double>(kMemoryBytes) / best_seconds([&] { read_all(numbers); }) / 1e9;
  std::printf("one thread reads memory at %.1f GB/s\n%-16s %-8s %-10s %5s %-9s %9s %9s %6s\n", read, "level", "type",
              "operation", "dim", "rows in", "ns/row", "GB/s", "share");
  int lines = 0;
  for (const Operation& operation : operations()) {
    for (const std::size_t dim : {128, 768}) {
      for (const Place& place : kPlaces) {
        const std::size_t row_bytes = dim * operation.bits / 8;
        const Rows rows(numbers.begin(), place, row_bytes, dim);
        for (const SimdLevel level : kSimdLevels) {
          const Kernels* kernels = kernels_at(level);
          const std::string dim_word = std::to_string(dim);
          const std::string_view line[] = {to_string(level), operation.type, operation.name, dim_word, place.name};
          const auto has = [&](std::string_view word) { return std::ranges::find(line, word) != std::end(line); };
          if (kernels == nullptr || !std::ranges::all_of(words, has)) continue;
          const double seconds = best_seconds([&] { operation.pass(*kernels, rows); });
          const double speed = static_cast<double>(rows.count * row_bytes) / seconds / 1e9;
          std::printf("%-16s %-8s %-10s %5zu %-9s %9.1f %9.1f", to_string(level), operation.type.c_str(),
                      operation.name.c_str(), dim, place.name, seconds / static_cast<double>(rows.count) * 1e9, speed);
          std::printf(place.is_memory ? " %6.2f\n" : "\n", speed / read);
          ++lines;
        }
      }
    }
  }
  return lines;
}

}  // namespace

int main(int argc, char** argv) {  // NOLINT(bugprone-exception-escape): out of memory may end it
  if (print_table({argv + 1, argv + argc}) > 0) return 0;
  std::fputs("bench_kernels: no line has all of these words; each is a level, type, operation, dim or place\n", stderr);
  return 2;
}
