// The sets of a walk and the map of ids, against the standard library's.
#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <random>
#include <set>
#include <span>
#include <vector>

#include "check.h"
#include "hnsw/candidates.h"
#include "hnsw/id_map.h"
#include "hnsw/nearest.h"

using namespace akidb;
using namespace akidb::hnsw;

TEST(sorted_pool_keeps_the_nearest_in_order) {
  std::mt19937 random(1);
  SortedPool pool;
  for (const std::size_t capacity : {1U, 2U, 7U, 64U}) {
    pool.reset(capacity);
    std::vector<Candidate> all;
    for (Node node = 0; node < 300; ++node) {
      all.push_back({static_cast<float>(random() % 50), node});  // many equal distances
      pool.insert(all.back());
      std::vector<Candidate> kept = all;
      std::stable_sort(kept.begin(), kept.end(),
                       [](const Candidate& a, const Candidate& b) { return a.distance < b.distance; });
      kept.resize(std::min(kept.size(), capacity));
      CHECK_EQ(kept.size(), pool.size());
      for (std::size_t i = 0; i < kept.size(); ++i) CHECK_EQ(kept[i].distance, pool.begin()[i].distance);
    }
  }
}

TEST(sorted_pool_hands_out_each_candidate_once_nearest_first) {
  SortedPool pool;
  pool.reset(8);
  for (const Node node : {5U, 3U, 9U}) pool.insert({static_cast<float>(node), node});
  Node node = 0;
  CHECK(pool.next(node));
  CHECK_EQ(3U, node);
  pool.insert({1.0F, 1});  // nearer than what was expanded: comes next
  CHECK(pool.next(node));
  CHECK_EQ(1U, node);
  CHECK(pool.next(node));
  CHECK_EQ(5U, node);
  CHECK(pool.next(node));
  CHECK_EQ(9U, node);
  CHECK(!pool.next(node));
  pool.finish();
  CHECK_EQ(1U, pool.begin()[0].node);
  CHECK_EQ(3U, pool.begin()[1].node);
}

TEST(sorted_pool_goes_on_from_candidates_of_which_some_are_expanded) {
  SortedPool pool;
  const std::vector<Candidate> candidates = {{1.0F, 7}, {2.0F, 5}, {3.0F, 9}, {4.0F, 8}};
  pool.assign(candidates, candidates.size(), [](const Candidate& each) { return each.node == 7 || each.node == 5; });
  pool.set_horizon(3);
  Node node = 0;
  CHECK(pool.next(node));
  CHECK_EQ(9U, node);
  CHECK(!pool.next(node));
  CHECK(!pool.insert({5.0F, 6}));  // no room for what is farther than all
  CHECK(pool.insert({2.5F, 4}));   // within the horizon, not expanded
  CHECK(pool.next(node));
  CHECK_EQ(4U, node);
  CHECK(!pool.next(node));
  pool.set_horizon(100);  // beyond all it holds
  CHECK(!pool.next(node));
  CHECK_EQ(std::size_t{4}, pool.size());
  CHECK_EQ(7U, pool.candidate(0).node);
  pool.assign(candidates, candidates.size(),
              [](const Candidate& each) { return each.node != 8; });  // among equals it may be any
  CHECK(pool.next(node));
  CHECK_EQ(8U, node);
  CHECK(!pool.next(node));
}

TEST(sorted_pool_takes_more_than_it_is_assigned_up_to_its_capacity) {
  SortedPool pool;
  const std::vector<Candidate> candidates = {{1.0F, 7}, {2.0F, 5}};
  pool.assign(candidates, 3, [](const Candidate&) { return true; });
  CHECK(pool.insert({5.0F, 6}));
  CHECK(!pool.insert({6.0F, 4}));
  Node node = 0;
  CHECK(pool.next(node));
  CHECK_EQ(6U, node);
  CHECK(!pool.next(node));
}

TEST(nearest_sorted_or_gathered_are_those_of_a_sort) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  constexpr float kMax = std::numeric_limits<float>::max();
  std::mt19937 random(3);
  const auto uniform = [&] { return static_cast<float>(random()) / 1e9F - 2.0F; };
  const auto make = [&](int kind) {
    switch (kind) {
      case 0:
        return uniform();
      case 1:
        return static_cast<float>(random() % 4);  // many equal
      case 2:
        return 7.0F;
      case 3:
        return random() % 9 == 0 ? kInfinity : uniform();
      case 4:
        return random() % 9 == 0 ? kMax : (random() % 2 == 0 ? -kMax : 1.0F);  // farther apart than a float tells
      case 5:
        return std::exp(20.0F * uniform());  // nearly all in one bucket
      default:
        return kInfinity;
    }
  };
  std::vector<Candidate> memory;
  for (int kind = 0; kind < 7; ++kind) {
    for (const std::size_t size : {0U, 1U, 2U, 32U, 33U, 700U, 5000U}) {
      std::vector<Candidate> all(size);
      for (Candidate& each : all) each = {make(kind), static_cast<Node>(random() % 1000)};
      std::vector<Candidate> expected = all;
      std::sort(expected.begin(), expected.end());
      for (const std::size_t wanted : {std::size_t{0}, std::size_t{1}, size / 3, size, size + 5}) {
        const std::span<const Candidate> found = sorted_nearest(all, wanted, memory);
        CHECK_EQ(std::min(wanted, size), found.size());
        for (std::size_t i = 0; i < found.size(); ++i) {
          CHECK_EQ(expected[i].distance, found[i].distance);
          CHECK_EQ(expected[i].node, found[i].node);
        }
        if (wanted == 0 || wanted > size) continue;
        std::vector<Candidate> gathered = all;
        gather_nearest(gathered, wanted);
        CHECK(!(gathered[wanted - 1] < expected[wanted - 1]) && !(expected[wanted - 1] < gathered[wanted - 1]));
        gathered.resize(wanted);
        std::sort(gathered.begin(), gathered.end());
        for (std::size_t i = 0; i < wanted; ++i) {
          CHECK_EQ(expected[i].distance, gathered[i].distance);
          CHECK_EQ(expected[i].node, gathered[i].node);
        }
      }
    }
  }
}

TEST(visited_forgets_between_walks_also_where_its_number_wraps) {
  Visited visited;
  for (int walk = 0; walk < 600; ++walk) {
    visited.begin(4);
    CHECK_EQ(std::size_t{1}, visited.insert(2));
    CHECK_EQ(std::size_t{0}, visited.insert(2));
  }
  visited.begin(100);
  CHECK_EQ(std::size_t{1}, visited.insert(99));
}

TEST(id_map_agrees_with_std_map) {
  std::mt19937 random(7);
  std::vector<std::int64_t> ids;
  IdMap map;
  std::map<std::int64_t, Node> oracle;
  map.reserve(4000, ids.data());
  for (int step = 0; step < 4000; ++step) {
    const auto id = static_cast<std::int64_t>(random() % 700) << (random() % 2 * 20);  // many share their low bits
    if (const auto it = oracle.find(id); it != oracle.end()) {
      CHECK_EQ(it->second, map.find(id, ids.data()));
      map.erase(id, ids.data());
      oracle.erase(it);
    } else {
      CHECK_EQ(kNoNode, map.find(id, ids.data()));
      ids.push_back(id);
      map.insert(static_cast<Node>(ids.size() - 1), ids.data());
      oracle[id] = static_cast<Node>(ids.size() - 1);
    }
    CHECK_EQ(oracle.size(), map.size());
  }
  for (const auto& [id, node] : oracle) CHECK_EQ(node, map.find(id, ids.data()));
}

// As of tenants or times with a number below them that is 0: no few homes for all.
TEST(ids_that_are_multiples_of_a_power_of_two_have_homes_of_their_own) {
  constexpr std::int64_t kCount = 40000;
  constexpr std::uint64_t kHomes = 65536;
  for (int shift = 0; shift < 48; ++shift) {
    std::set<std::uint64_t> homes;
    for (std::int64_t i = 0; i < kCount; ++i) homes.insert(IdMap::hash(i << shift) % kHomes);
    CHECK(homes.size() > kCount / 3);
  }
}
