// The screen against the kernels at every level: no row that is at a distance is told to be farther, whatever the
// numbers. That it leaves out nearly all rows of ordinary data is a test as well, since one that kept all would pass.
#include <algorithm>
#include <bit>
#include <cmath>
#include <functional>
#include <limits>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "check.h"
#include "flat/screen.h"

using namespace akidb;
using flat::Screen;

namespace {

constexpr std::size_t kQueries = 37;  // no whole number of panels at any level
constexpr std::size_t kRows = 26;
constexpr Metric kMetrics[] = {Metric::kL2, Metric::kInnerProduct, Metric::kCosine};

std::vector<const Kernels*> levels() {
  std::vector<const Kernels*> all;
  for (const SimdLevel level : kSimdLevels) {
    if (const Kernels* table = kernels_at(level)) all.push_back(table);
  }
  return all;
}

struct Data {
  Screen::Shape shape;
  std::vector<std::uint8_t> queries;
  std::vector<std::uint8_t> rows;
  std::vector<float> query_norms;
  std::vector<float> row_norms;

  const std::uint8_t* query(std::size_t i) const { return queries.data() + i * vector_bytes(shape.type, shape.dim); }
  const std::uint8_t* row(std::size_t i) const { return rows.data() + i * vector_bytes(shape.type, shape.dim); }
};

std::vector<float> norms(const Screen::Shape& shape, const std::vector<std::uint8_t>& vectors) {
  std::vector<float> out(vectors.size() / vector_bytes(shape.type, shape.dim));
  for (std::size_t i = 0; i < out.size(); ++i)
    out[i] = inverse_norm(shape.type, vectors.data() + i * vector_bytes(shape.type, shape.dim), shape.dim);
  return out;
}

Data with_norms(Data data) {
  data.query_norms = norms(data.shape, data.queries);
  data.row_norms = norms(data.shape, data.rows);
  return data;
}

std::vector<std::uint8_t> bytes_of(const std::vector<float>& values) {
  const auto* begin = reinterpret_cast<const std::uint8_t*>(values.data());
  return {begin, begin + values.size() * sizeof(float)};
}

float distance(const Kernels& kernels, const Data& data, std::size_t q, std::size_t r) {
  const auto& [dim, metric, type] = data.shape;
  const float sum = kernels.of(type, metric).single(data.query(q), data.row(r), dim);
  if (metric == Metric::kL2) return sum;
  if (metric == Metric::kInnerProduct) return -sum;
  return cosine_distance(sum, data.query_norms[q], data.row_norms[r]);
}

Screen screen_of(const Kernels& kernels, const Data& data, std::vector<float> centre) {
  Screen screen(kernels, data.shape, std::move(centre), kQueries + 40, kRows + 9);
  screen.set_queries(kQueries);
  for (std::size_t q = 0; q < kQueries; ++q) screen.set_query(q, data.query(q), data.query_norms[q]);
  return screen;
}

// Near of every query, where the rows beyond `limits` (one per query) are too far.
std::vector<std::vector<Screen::Near>> near_of(const Screen& screen, const Data& data,
                                               const std::vector<float>& limits) {
  Screen::Block block = screen.block();
  screen.begin(block);
  for (std::size_t r = 0; r < kRows; ++r) screen.set_row(r, data.row(r), data.row_norms[r], block);
  for (std::size_t q = 0; q < kQueries; ++q) block.floors[q] = screen.floor(q, limits[q]);
  std::size_t steps = 0;
  screen.find_near(kRows, block, [&](std::size_t step, std::size_t) { CHECK_EQ(steps++, step); });
  return block.near;
}

// The closeness of each row is no less than the floor for its own distance, and so than that for any greater one.
void check_sound(const Data& data, const char* what) {
  const std::vector<float> no_limits(kQueries, std::numeric_limits<float>::infinity());
  std::vector<float> centre(data.shape.dim);
  decode(data.shape.type, data.row(3), data.shape.dim, centre.data());
  for (const Kernels* kernels : levels()) {
    for (const bool is_centred : {false, true}) {
      const Screen screen = screen_of(*kernels, data, is_centred ? centre : std::vector<float>());
      const auto near = near_of(screen, data, no_limits);
      for (std::size_t q = 0; q < kQueries; ++q) {
        CHECK_EQ(kRows, near[q].size());
        std::set<std::uint32_t> places;
        for (const auto& [closeness, place] : near[q]) {
          CHECK(!std::isnan(closeness) && place < kRows && places.insert(place).second);
          const float exact = distance(*kernels, data, q, place);
          const float floor = screen.floor(q, std::isnan(exact) ? no_limits[q] : exact);
          if (!(closeness < floor)) continue;
          throw test::Failure(std::string(what) + " at " + kernels->name + ", dim " + std::to_string(data.shape.dim) +
                              ", metric " + std::to_string(static_cast<int>(data.shape.metric)) + ": query " +
                              std::to_string(q) + " would lose row " + std::to_string(place));
        }
      }
    }
  }
}

using Draw = std::function<float(std::mt19937&)>;

Data drawn(std::size_t dim, Metric metric, unsigned seed, const Draw& query, const Draw& row) {
  std::mt19937 random(seed);
  std::vector<float> queries(kQueries * dim);
  std::vector<float> rows(kRows * dim);
  for (float& value : queries) value = query(random);
  for (float& value : rows) value = row(random);
  return with_norms({{dim, metric, ElementType::kFloat32}, bytes_of(queries), bytes_of(rows), {}, {}});
}

float normal(std::mt19937& random) { return std::normal_distribution<float>()(random); }

}  // namespace

TEST(no_row_within_the_limit_is_lost) {
  for (const Metric metric : kMetrics) {
    for (const std::size_t dim : {1, 4, 5, 127, 129, 260}) {
      check_sound(drawn(dim, metric, 1, normal, normal), "normal");
    }
  }
}

TEST(nor_where_norms_are_huge_tiny_or_both) {
  for (const Metric metric : kMetrics) {
    for (const float scale : {1e-44F, 1e-30F, 1e-20F, 1e-12F, 1e12F, 1e17F, 1e19F, 3e38F}) {
      const Draw scaled = [scale](std::mt19937& random) { return scale * std::tanh(normal(random)); };
      check_sound(drawn(40, metric, 2, normal, scaled), "rows scaled");
      check_sound(drawn(40, metric, 3, scaled, normal), "queries scaled");
      check_sound(drawn(40, metric, 4, scaled, scaled), "both scaled");
    }
    const Draw anything = [](std::mt19937& random) {
      const float value = std::bit_cast<float>(static_cast<std::uint32_t>(random()));
      return std::isfinite(value) ? value : 0.0F;
    };
    check_sound(drawn(24, metric, 5, anything, anything), "any bits");
    check_sound(drawn(24, metric, 6, [](std::mt19937&) { return 0.0F; }, normal), "zero queries");
    check_sound(drawn(24, metric, 7, normal, [](std::mt19937&) { return 0.0F; }), "zero rows");
  }
}

// Distances of a few last digits far from the origin: the squares and the product cancel, and what is left of them is
// rounding.
TEST(nor_where_squares_and_product_cancel) {
  for (const Metric metric : kMetrics) {
    for (const std::size_t dim : {7, 130}) {
      for (const float spread : {0.0F, 1e-7F, 1e-6F, 1e-4F}) {
        const Draw near_one_place = [spread](std::mt19937& random) {
          return 100.0F * (1.0F + spread * normal(random));
        };
        check_sound(drawn(dim, metric, 8, near_one_place, near_one_place), "near one place");
      }
    }
  }
}

// Rows that differ from one another by one unit in the last place of one element: limits between them are as close as
// floats can be.
TEST(nor_among_rows_that_nearly_tie) {
  constexpr std::size_t kDim = 96;
  for (const Metric metric : kMetrics) {
    Data data = drawn(kDim, metric, 9, normal, normal);
    auto* rows = reinterpret_cast<float*>(data.rows.data());
    for (std::size_t r = 1; r < kRows; ++r) {
      std::copy_n(rows, kDim, rows + r * kDim);
      float& value = rows[r * kDim + r % kDim];
      value = std::nextafter(value, r % 2 == 0 ? 10.0F : -10.0F);
    }
    check_sound(with_norms(data), "near ties");
  }
}

TEST(nor_of_any_type_of_element) {
  std::mt19937 random(10);
  for (const ElementType type :
       {ElementType::kFloat16, ElementType::kBFloat16, ElementType::kInt8, ElementType::kUint8}) {
    for (const Metric metric : kMetrics) {
      Data data{{50, metric, type}, {}, {}, {}, {}};
      data.queries.resize(kQueries * vector_bytes(type, data.shape.dim));
      data.rows.resize(kRows * vector_bytes(type, data.shape.dim));
      // Bytes of floats whose exponents are small: no NaN, no infinity.
      for (auto& byte : data.queries) byte = static_cast<std::uint8_t>(is_float(type) ? random() % 64 : random());
      for (auto& byte : data.rows) byte = static_cast<std::uint8_t>(is_float(type) ? random() % 64 : random());
      check_sound(with_norms(data), "bytes");
    }
  }
}

TEST(nor_where_stored_inverse_norms_are_not_those_of_the_rows) {
  Data data = drawn(40, Metric::kCosine, 11, normal, normal);
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const float wrong[] = {0.0F, 1e-30F, 1e-3F, 1e3F, 1e30F, kInfinity, std::nanf("")};
  for (std::size_t r = 0; r < kRows; ++r) data.row_norms[r] = wrong[r % std::size(wrong)];
  for (std::size_t q = 0; q < kQueries; q += 3) data.query_norms[q] = wrong[q % std::size(wrong)];
  check_sound(data, "wrong norms");
}

TEST(nearly_all_rows_beyond_the_limit_are_left_out) {
  for (const Metric metric : kMetrics) {
    const Data data = drawn(200, metric, 12, normal, normal);
    for (const Kernels* kernels : levels()) {
      std::vector<float> limits;
      std::size_t within = 0;
      for (std::size_t q = 0; q < kQueries; ++q) {
        std::vector<float> all(kRows);
        for (std::size_t r = 0; r < kRows; ++r) all[r] = distance(*kernels, data, q, r);
        std::sort(all.begin(), all.end());
        limits.push_back(all[4]);
        within += 5;
      }
      std::size_t kept = 0;
      for (const auto& near : near_of(screen_of(*kernels, data, {}), data, limits)) kept += near.size();
      CHECK(kept >= within && kept <= within + kQueries / 4);
    }
  }
}

TEST(queries_of_a_pass_before_leave_nothing_behind) {
  for (const Kernels* kernels : levels()) {
    const Data data = drawn(20, Metric::kL2, 13, normal, normal);
    Screen screen(*kernels, data.shape, {}, kQueries, kRows);
    Screen::Block block = screen.block();
    for (const std::size_t count : {kQueries, std::size_t{2}}) {
      screen.set_queries(count);
      for (std::size_t q = 0; q < count; ++q) screen.set_query(q, data.query(q), 0.0F);
      for (auto& near : block.near) near.clear();
      screen.begin(block);
      for (std::size_t r = 0; r < kRows; ++r) screen.set_row(r, data.row(r), 0.0F, block);
      screen.find_near(kRows, block, [](std::size_t, std::size_t) {});
      for (std::size_t q = 0; q < kQueries; ++q) CHECK_EQ(q < count ? kRows : 0, block.near[q].size());
    }
  }
}
