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

constexpr Removals::Time kSeen = 5;

void check_all(const Order& order, const std::vector<std::uint8_t>& allowed, const Removals::Time* removed_in) {
  const std::size_t count = allowed.size();
  const Passing passing(order, count, allowed.data(), Removals{removed_in, kSeen}, 0);
  std::vector<Node> nodes;
  std::size_t total = 0;
  for (Node row = 0; row < count; ++row) {
    total += static_cast<std::size_t>(allowed[row] != 0);
    const bool passes = allowed[row] != 0 && (removed_in == nullptr || removed_in[row] == 0 || removed_in[row] > kSeen);
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
    std::vector<Removals::Time> removed_in(count);
    for (Removals::Time& time : removed_in) time = static_cast<Removals::Time>(random() % (2 * kSeen));
    for (const unsigned one_in : {1U, 2U, 20U}) {
      std::vector<std::uint8_t> allowed(count);
      for (std::uint8_t& byte : allowed)
        byte = static_cast<std::uint8_t>(random() % one_in == 0 ? 1 + random() % 255 : 0);
      check_all({}, allowed, nullptr);
      check_all(shuffled.order(), allowed, nullptr);
      check_all(shuffled.order(), allowed, removed_in.data());
    }
  }
}

TEST(without_a_filter_the_removed_are_counted_off) {
  const std::vector<Removals::Time> removed_in = {0, 1, 3, 2, 2};
  const Order order;
  const Passing passing(order, 5, nullptr, {removed_in.data(), 2}, 3);
  CHECK_EQ(std::size_t{2}, passing.total());
  CHECK((passing.by_node() == std::vector<Node>{0, 2}));
  CHECK(!passing.everything());
  CHECK(Passing({}, 5, nullptr, {}, 0).everything());
}
