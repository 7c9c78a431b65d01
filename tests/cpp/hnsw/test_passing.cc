// Which nodes pass, against a plain loop over the bytes.
#include "hnsw/passing.h"

#include <algorithm>
#include <numeric>
#include <random>
#include <vector>

#include "check.h"

using namespace akidb::hnsw;

namespace {

struct Shuffled {
  std::vector<Node> rows;
  std::vector<Node> nodes;

  explicit Shuffled(std::size_t count) : rows(count), nodes(count) {
    std::iota(rows.begin(), rows.end(), Node{0});
    std::shuffle(rows.begin(), rows.end(), std::mt19937(4));
    for (Node node = 0; node < count; ++node) nodes[rows[node]] = node;
  }
  Order order() const { return {rows.data(), nodes.data(), rows.size()}; }
};

void check_all(const Order& order, const std::vector<std::uint8_t>& allowed, const std::uint8_t* removed) {
  const std::size_t count = allowed.size();
  const Passing passing(order, count, allowed.data(), removed, 0);
  std::vector<Node> nodes;
  std::size_t total = 0;
  for (Node row = 0; row < count; ++row) {
    total += static_cast<std::size_t>(allowed[row] != 0);
    const bool passes = allowed[row] != 0 && (removed == nullptr || removed[row] == 0);
    CHECK_EQ(passes, passing(order.node_of(row)));
    if (passes) nodes.push_back(order.node_of(row));
  }
  CHECK_EQ(total, passing.total());
  std::sort(nodes.begin(), nodes.end());
  std::vector<Node> listed = passing.by_row();
  std::sort(listed.begin(), listed.end());
  CHECK(nodes == listed);
  CHECK(nodes == passing.by_node());
  CHECK(!passing.row_passes(count));
}

}  // namespace

TEST(bytes_of_any_value_at_every_length_and_density) {
  std::mt19937 random(1);
  for (std::size_t count = 0; count < 300; ++count) {
    const Shuffled shuffled(count);
    const std::vector<std::uint8_t> removed(count, static_cast<std::uint8_t>(count % 2));
    for (const unsigned one_in : {1U, 2U, 20U}) {
      std::vector<std::uint8_t> allowed(count);
      for (std::uint8_t& byte : allowed)
        byte = static_cast<std::uint8_t>(random() % one_in == 0 ? 1 + random() % 255 : 0);
      check_all({}, allowed, nullptr);
      check_all(shuffled.order(), allowed, nullptr);
      check_all(shuffled.order(), allowed, removed.data());
    }
  }
}

TEST(without_a_filter_the_removed_are_counted_off) {
  const std::vector<std::uint8_t> removed = {0, 1, 0, 1, 1};
  CHECK_EQ(std::size_t{2}, Passing({}, 5, nullptr, removed.data(), 3).total());
  CHECK_EQ(std::size_t{1}, Passing({}, 5, nullptr, removed.data(), 7).total());  // the count ran ahead
  CHECK((Passing({}, 5, nullptr, removed.data(), 3).by_node() == std::vector<Node>{0, 2}));
  CHECK(Passing({}, 5, nullptr, nullptr, 0).everything());
}
