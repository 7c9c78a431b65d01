// Building and searching: sound links, near-exact answers, the same bytes from any threads, filters, deadlines.
#include <algorithm>
#include <array>
#include <vector>

#include "check.h"
#include "data.h"
#include "hnsw/connect.h"
#include "hnsw/insert.h"
#include "hnsw/search.h"
#include "hnsw/serialize.h"
#include "hnsw/validate.h"

using namespace akidb;
using namespace akidb::hnsw;
using namespace akidb::test;
using quantization::CodeBits;

namespace {

constexpr std::size_t kDim = 20;
constexpr std::size_t kCount = 3000;

struct Found {
  std::vector<std::int64_t> nodes;
  std::vector<float> distances;
};

template <class G>
Found find(const G& graph, const Vectors& vectors, Request request) {
  Found found{std::vector<std::int64_t>(request.query_count * request.k),
              std::vector<float>(request.query_count * request.k)};
  search(graph, vectors, request, found.nodes.data(), found.distances.data());
  return found;
}

Request request(const std::vector<float>& queries, std::size_t k, std::size_t ef) {
  Request out;
  out.queries = queries.data();
  out.query_count = queries.size() / kDim;
  out.k = k;
  out.ef = ef;
  out.count = kCount;
  return out;
}

struct Built : BuiltGraph {
  explicit Built(unsigned threads, std::size_t count = kCount) : BuiltGraph(count, kDim, {8, 60, 1}, 3, threads) {}
};

std::vector<std::uint8_t> bytes_of(const Built& built, CodeBits bits = CodeBits::kNone) {
  const Graph& graph = built.graph;
  std::vector<std::uint8_t> bytes(sealed_bytes(graph, graph.capacity(), kDim, bits));
  seal(graph, locality_order(graph, graph.capacity()), built.vectors, bits, 2, bytes.data());
  return bytes;
}

}  // namespace

TEST(every_node_is_reached_once_connected_even_where_all_are_equal) {
  for (const std::size_t kinds : {1, 3}) {
    std::vector<float> values(2000 * kDim);
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i / kDim % kinds);
    const Vectors vectors = rows_of(values, kDim);
    Graph graph({8, 60, 1}, 2000);
    build(graph, vectors, 0, 2000, 2, {});
    const std::size_t lost = validate(graph, 2000).unreachable;
    CHECK(lost > 1000);
    const std::size_t attached = connect(graph, vectors, 2000);
    CHECK(attached > 0 && attached <= lost);
    CHECK_EQ(std::size_t{0}, validate(graph, 2000).unreachable);
    CHECK_EQ(std::size_t{0}, connect(graph, vectors, 2000));
  }
}

TEST(a_node_that_nothing_near_leads_to_gets_a_link_where_a_walk_towards_it_ends) {
  const std::vector<float> values{0, 1, 2, 10, 30};
  const std::vector<std::uint8_t> levels{1, 1, 0, 1, 0};
  Graph graph({2, 10, 1}, values.size(), levels);
  const std::vector<std::vector<Node>> rows{{1, 2}, {0}, {0, 1}, {0, 4}, {3}};
  for (Node node = 0; node < rows.size(); ++node) std::copy(rows[node].begin(), rows[node].end(), graph.row(node, 0));
  *graph.row(0, 1) = 1;
  *graph.row(1, 1) = 0;
  *graph.row(3, 1) = 0;
  graph.set_entry({0, 1});
  lead_back(graph, rows_of(values, 1), values.size(), 2);
  const auto row = [&](Node node, unsigned level) {
    const Node* links = graph.row(node, level);
    return std::vector<Node>(links, links + used_links(graph, links, graph.degree(level)));
  };
  CHECK(row(0, 0) == (std::vector<Node>{1, 2}));
  CHECK(row(1, 0) == (std::vector<Node>{0, 2}));
  CHECK(row(2, 0) == (std::vector<Node>{0, 1, 3}));
  CHECK(row(3, 0) == (std::vector<Node>{0, 4}));
  CHECK(row(0, 1) == (std::vector<Node>{1}));
  CHECK(row(1, 1) == (std::vector<Node>{0, 3}));
}

TEST(links_are_sound_and_nearly_every_node_is_reached) {
  for (const unsigned threads : {1U, 4U}) {
    const Built built(threads);
    const Census census = validate(built.graph, kCount);
    CHECK_EQ(kCount, census.nodes);
    CHECK(census.unreachable <= kCount / 500);
    CHECK(census.links >= kCount * 8 / 2);
    CHECK(census.level >= 2);
  }
}

TEST(finds_nearly_all_true_neighbours) {
  const Built built(4);
  const std::vector<float> queries = clustered(100, kDim, 4);
  const Found found = find(built.graph, built.vectors, request(queries, 10, 100));
  std::size_t hits = 0;
  for (std::size_t q = 0; q < 100; ++q) {
    for (const std::int64_t node : nearest(built.vectors, kCount, &queries[q * kDim], 10)) {
      hits += std::count(&found.nodes[q * 10], &found.nodes[q * 10] + 10, node);
    }
    CHECK(std::is_sorted(&found.distances[q * 10], &found.distances[q * 10] + 10));
  }
  CHECK(hits >= 990);
}

TEST(any_number_of_threads_gives_the_same_bytes) {
  const std::vector<std::uint8_t> one = bytes_of(Built(1));
  for (const unsigned threads : {1U, 2U, 7U}) CHECK(bytes_of(Built(threads)) == one);
}

// What arrives together may belong together: rows sorted by cluster must not lose their neighbours in the batch.
TEST(nodes_of_one_batch_find_each_other) {
  std::vector<float> values = clustered(kCount, kDim, 3);
  std::vector<std::vector<float>> rows;
  rows.reserve(kCount);
  for (std::size_t i = 0; i < kCount; ++i) rows.emplace_back(&values[i * kDim], &values[i * kDim] + kDim);
  std::sort(rows.begin(), rows.end());
  for (std::size_t i = 0; i < kCount; ++i) std::copy(rows[i].begin(), rows[i].end(), &values[i * kDim]);
  const Vectors vectors = rows_of(values, kDim);
  Graph graph({8, 60, 1}, kCount);
  build(graph, vectors, 0, kCount, 2, {});
  const std::vector<float> queries = clustered(100, kDim, 4);
  const Found found = find(graph, vectors, request(queries, 10, 100));
  std::size_t hits = 0;
  for (std::size_t q = 0; q < 100; ++q) {
    for (const std::int64_t node : nearest(vectors, kCount, &queries[q * kDim], 10)) {
      hits += std::count(&found.nodes[q * 10], &found.nodes[q * 10] + 10, node);
    }
  }
  CHECK(hits >= 980);
}

TEST(a_level_is_drawn_without_logarithms_and_as_often_as_it_should_be) {
  const Params params{4, 10, 3};
  std::array<std::size_t, 4> at_least{};
  for (std::uint64_t node = 0; node < 100'000; ++node) {
    for (unsigned level = 0; level < at_least.size(); ++level) at_least[level] += params.level_of(node) >= level;
  }
  CHECK_EQ(std::size_t{100'000}, at_least[0]);
  CHECK(at_least[1] > 24'500 && at_least[1] < 25'500);  // 1 / m, and four standard deviations
  CHECK(at_least[2] > 5'900 && at_least[2] < 6'600);
  CHECK(at_least[3] > 1'400 && at_least[3] < 1'730);
}

TEST(a_view_answers_as_the_graph_it_was_written_from) {
  const Built built(4);
  const std::vector<std::uint8_t> bytes = bytes_of(built);
  const GraphView view = open(bytes.data(), read_header(bytes.data(), bytes.size()));
  const std::vector<float> queries = clustered(50, kDim, 5);
  const Found a = find(built.graph, built.vectors, request(queries, 7, 40));
  Vectors vectors = built.vectors;
  vectors.order = open_order(bytes.data(), read_header(bytes.data(), bytes.size()));
  vectors.order.check();
  const Found b = find(view, vectors, request(queries, 7, 40));
  CHECK(a.nodes == b.nodes);
  CHECK(a.distances == b.distances);
  CHECK_EQ(validate(built.graph, kCount).links, validate(view, kCount).links);
}

// The floor is what the same graph finds without a filter.
TEST(a_filter_returns_only_what_passes_and_as_much_of_it_as_is_found_without) {
  const Built built(4);
  const std::vector<float> queries = clustered(50, kDim, 6);
  double unfiltered = 0;
  for (const unsigned every : {1U, 2U, 10U, 500U}) {  // the last is scanned: 6 nodes
    std::vector<std::uint8_t> allowed(kCount, 0);
    for (std::size_t node = 0; node < kCount; node += every) allowed[node] = 1;
    Request filtered = request(queries, 10, 20);
    if (every > 1) filtered.allowed = allowed.data();
    const Found found = find(built.graph, built.vectors, filtered);
    std::size_t hits = 0;
    std::size_t wanted = 0;
    for (std::size_t q = 0; q < 50; ++q) {
      std::vector<std::int64_t> passing = nearest(built.vectors, kCount, &queries[q * kDim], kCount);
      std::erase_if(passing, [&](std::int64_t node) { return allowed[static_cast<std::size_t>(node)] == 0; });
      passing.resize(std::min<std::size_t>(10, passing.size()));
      wanted += passing.size();
      for (std::size_t i = 0; i < 10; ++i) {
        const std::int64_t node = found.nodes[q * 10 + i];
        CHECK(node == -1 || allowed[static_cast<std::size_t>(node)] == 1);
        hits += std::count(passing.begin(), passing.end(), node);
      }
    }
    const double recall = static_cast<double>(hits) / static_cast<double>(wanted);
    if (every == 1) unfiltered = recall;
    CHECK(recall >= std::max(0.95, unfiltered - 0.01));
  }
}

TEST(inner_products_behind_the_greatest_are_found) {
  Built built(4);
  built.vectors.metric = Metric::kInnerProduct;
  Graph graph({8, 60, 1}, kCount);
  build(graph, built.vectors, 0, kCount, 2, {});
  const std::vector<float> queries = clustered(50, kDim, 6);
  std::size_t hits = 0;
  for (std::size_t at = 0; at < queries.size(); at += kDim) {
    std::vector<std::int64_t> order = nearest(built.vectors, kCount, &queries[at], 60);
    std::vector<std::uint8_t> allowed(kCount, 1);
    for (std::size_t i = 0; i < 50; ++i) allowed[static_cast<std::size_t>(order[i])] = 0;
    Request filtered = request(queries, 10, 50);
    filtered.queries = &queries[at];
    filtered.query_count = 1;
    filtered.allowed = allowed.data();
    for (const std::int64_t row : find(graph, built.vectors, filtered).nodes)
      hits += static_cast<std::size_t>(std::count(order.begin() + 50, order.end(), row));
  }
  CHECK(hits >= 475);
}

TEST(removed_nodes_are_walked_through_but_not_returned) {
  const Built built(4);
  // Every fourth is there, every fourth goes later.
  std::vector<Removals::Time> removed_in(kCount, 2);
  for (std::size_t node = 0; node < kCount; ++node) removed_in[node] = node % 4 == 0 ? 0 : node % 4 == 2 ? 3 : 2;
  const std::vector<float> queries = clustered(20, kDim, 7);
  Request rest = request(queries, 5, 50);
  rest.removals = {removed_in.data(), 2};
  rest.removed_count = kCount / 2;
  std::size_t later = 0;
  for (const std::int64_t node : find(built.graph, built.vectors, rest).nodes) {
    CHECK(node >= 0 && node % 2 == 0);
    later += node % 4 == 2 ? 1 : 0;
  }
  CHECK(later > 0);
}

TEST(nodes_beyond_the_count_are_walked_through_but_not_returned) {
  const Built built(4);
  const std::vector<float> queries = clustered(20, kDim, 7);
  Request half = request(queries, 5, 50);
  half.count = kCount / 2;
  for (const std::int64_t node : find(built.graph, built.vectors, half).nodes)
    CHECK(node >= 0 && node < static_cast<std::int64_t>(kCount / 2));
}

TEST(fewer_than_k_are_padded) {
  const Built built(1, 3);
  const std::vector<float> queries = clustered(1, kDim, 8);
  Request all = request(queries, 5, 1);
  all.count = 3;
  const Found found = find(built.graph, built.vectors, all);
  CHECK_EQ(std::int64_t{-1}, found.nodes[3]);
  CHECK(found.nodes[2] >= 0 && found.distances[4] > 1e30F);
  Graph empty({8, 60, 1}, 0);
  all.count = 0;
  CHECK_EQ(std::int64_t{-1}, find(empty, built.vectors, all).nodes[0]);
}

TEST(a_passed_deadline_and_a_raised_flag_stop_a_search) {
  const Built built(4);
  const std::vector<float> queries = clustered(1, kDim, 9);
  Request late = request(queries, 1, 10);
  late.stop.deadline = Deadline::after_seconds(0);
  CHECK(thrown_by<Error>([&] { find(built.graph, built.vectors, late); }).kind() == ErrorKind::kDeadlineExceeded);
  CancelFlag flag;
  flag.raise();
  Request cancelled = request(queries, 1, 10);
  cancelled.stop.cancel = &flag;
  CHECK(thrown_by<Error>([&] { find(built.graph, built.vectors, cancelled); }).kind() == ErrorKind::kCancelled);
}

TEST(equal_vectors_are_all_found) {
  std::vector<float> values(300 * kDim, 1.0F);
  const Vectors vectors = rows_of(values, kDim);
  Graph graph({8, 60, 1}, 300);
  build(graph, vectors, 0, 300, 1, {});
  const std::vector<float> query(kDim, 1.0F);
  Request ten = request(query, 10, 50);
  ten.count = 300;
  for (const std::int64_t node : find(graph, vectors, ten).nodes) CHECK(node >= 0);
}

// More of them than a walk holds, so that a filter needs going on from it, and fewer links between them than that
// takes.
TEST(equal_vectors_that_pass_are_found_among_many_that_do_not) {
  constexpr std::size_t kKinds = 20;
  constexpr std::size_t kEach = 2000;
  const std::vector<float> kinds = clustered(kKinds, kDim, 12);
  std::vector<float> values;
  for (std::size_t i = 0; i < kEach; ++i) values.insert(values.end(), kinds.begin(), kinds.end());
  const Vectors vectors = rows_of(values, kDim);
  Graph graph({16, 60, 1}, kEach * kKinds);
  build(graph, vectors, 0, kEach * kKinds, 2, {});
  connect(graph, vectors, kEach * kKinds);
  std::vector<std::uint8_t> allowed(kEach * kKinds);
  std::mt19937 random(13);
  for (std::uint8_t& byte : allowed) byte = random() % 10 < 3 ? 1 : 0;
  Request filtered = request(kinds, 100, 200);
  filtered.count = allowed.size();
  filtered.allowed = allowed.data();
  const Found found = find(graph, vectors, filtered);
  std::size_t equal = 0;
  for (const float distance : found.distances) equal += distance == 0.0F ? 1 : 0;
  CHECK_EQ(found.distances.size(), equal);
}

TEST(params_out_of_range_are_refused) {
  for (const Params& params : {Params{1, 100, 0}, Params{513, 100, 0}, Params{16, 0, 0}, Params{16, 70000, 0}}) {
    CHECK(thrown_by<Error>([&] { Graph(params, 1); }).kind() == ErrorKind::kInvalidInput);
  }
}

TEST(packed_links_are_the_links_at_every_width) {
  for (std::size_t count = 1; count <= kNodesMax; count = count * 3 + 1) {
    const LinkPacking packing = LinkPacking::of(count);
    CHECK(packing.bits >= 8 && packing.bits <= 32 && (packing.bits == 8 || count >> (packing.bits - 1) != 0));
    constexpr unsigned kDegree = 11;
    // Between bytes that are not zero, and with none behind it, so that AddressSanitizer sees a read beyond.
    std::vector<std::uint8_t> bytes(8, 0xA5);
    bytes.resize(8 + packing.row_bytes(kDegree));
    std::uint8_t* row = bytes.data() + 8;
    const auto link_at = [count](unsigned i) {
      return i == 7 ? kNoNode : static_cast<Node>((count - 1) * (i + 1) / kDegree);  // the last one is the largest
    };
    for (unsigned i = 0; i < kDegree; ++i) packing.store(row, i, link_at(i));
    for (unsigned i = 0; i < kDegree; ++i) CHECK_EQ(link_at(i), packing.load(row, i));
    CHECK_EQ(0xA5, int{bytes[7]});
  }
}
