// Merging graphs: sound links, every node reached, answers as good as those of a graph built anew.
#include "hnsw/merge.h"

#include <algorithm>
#include <iterator>
#include <list>
#include <string>
#include <vector>

#include "check.h"
#include "data.h"
#include "hnsw/connect.h"
#include "hnsw/order.h"
#include "hnsw/search.h"
#include "hnsw/serialize.h"
#include "hnsw/validate.h"

using namespace akidb;
using namespace akidb::hnsw;
using namespace akidb::test;

namespace {

constexpr std::size_t kDim = 20;
const Params kParams{8, 60, 1};

struct Piece {
  Piece(std::size_t count, unsigned seed, unsigned m = kParams.m)
      : values(clustered(count, kDim, seed)), live(count, 1) {
    const Vectors vectors = rows_of(values, kDim);
    Graph graph({m, kParams.ef_construction, seed}, count);
    build(graph, vectors, 0, count, 2, {});
    connect(graph, vectors, count);
    const std::vector<Node> order = locality_order(graph, count);
    bytes.resize(sealed_bytes(graph, count, kDim, quantization::CodeBits::kNone));
    seal(graph, order, vectors, quantization::CodeBits::kNone, 2, bytes.data());
    const GraphInfo info = read_header(bytes.data(), bytes.size());
    view = open(bytes.data(), info);
    part = {&view, open_order(bytes.data(), info), {live.data(), live.size()}};
  }
  Piece(const Piece&) = delete;
  Piece& operator=(const Piece&) = delete;

  std::vector<float> values;
  std::vector<std::uint8_t> bytes;
  std::vector<std::uint8_t> live;
  GraphView view;
  MergePart part;
};

using Pieces = std::list<Piece>;

std::vector<float> live_rows(const Pieces& pieces) {
  std::vector<float> out;
  for (const Piece& piece : pieces) {
    for (std::size_t row = 0; row < piece.live.size(); ++row) {
      if (piece.live[row] != 0) out.insert(out.end(), &piece.values[row * kDim], &piece.values[row * kDim] + kDim);
    }
  }
  return out;
}

std::vector<MergePart> parts_of(const Pieces& pieces) {
  std::vector<MergePart> out;
  out.reserve(pieces.size());
  for (const Piece& piece : pieces) out.push_back(piece.part);
  return out;
}

// Of the ten nearest to each of 100 queries, the share that is found.
double recall(const Graph& graph, const Vectors& vectors, std::size_t count) {
  constexpr std::size_t kQueries = 100;
  constexpr std::size_t kK = 10;
  const std::vector<float> queries = clustered(kQueries, kDim, 77);
  Request request;
  request.queries = queries.data();
  request.query_count = kQueries;
  request.k = kK;
  request.ef = 40;
  request.count = count;
  std::vector<std::int64_t> found(kQueries * kK);
  std::vector<float> distances(kQueries * kK);
  search(graph, vectors, request, found.data(), distances.data());
  std::size_t hits = 0;
  for (std::size_t q = 0; q < kQueries; ++q) {
    for (const std::int64_t row : nearest(vectors, count, &queries[q * kDim], kK))
      hits += static_cast<std::size_t>(std::count(&found[q * kK], &found[q * kK] + kK, row));
  }
  return static_cast<double>(hits) / (kQueries * kK);
}

void check_as_good_as_built(const Pieces& pieces) {
  const std::vector<float> values = live_rows(pieces);
  const std::size_t count = values.size() / kDim;
  const Vectors vectors = rows_of(values, kDim);
  const auto merged = merge(kParams, vectors, parts_of(pieces), 2, {});
  const Census census = validate(*merged, count);
  CHECK_EQ(count, census.nodes);
  CHECK_EQ(std::size_t{0}, census.unreachable);
  Graph fresh(kParams, count);
  build(fresh, vectors, 0, count, 2, {});
  CHECK(recall(*merged, vectors, count) >= recall(fresh, vectors, count) - 0.015);
}

}  // namespace

TEST(parts_of_any_sizes_merge_into_a_graph_as_good_as_a_built_one) {
  Pieces pieces;
  for (const std::size_t count : {900, 1500, 0, 40, 1}) pieces.emplace_back(count, static_cast<unsigned>(count));
  check_as_good_as_built(pieces);
}

TEST(nodes_left_out_are_mended_around) {
  Pieces pieces;
  for (const unsigned seed : {4U, 5U, 6U}) pieces.emplace_back(1000, seed);
  for (std::size_t row = 0; row < 1000; ++row) {
    pieces.front().live[row] = row % 3 != 0;
    pieces.back().live[row] = row >= 800;  // too little of it is left to be taken over
  }
  check_as_good_as_built(pieces);
  pieces.erase(std::next(pieces.begin()), pieces.end());
  check_as_good_as_built(pieces);
  for (Piece& piece : pieces) std::fill(piece.live.begin(), piece.live.end(), std::uint8_t{0});
  const auto empty = merge(kParams, rows_of({}, kDim), parts_of(pieces), 2, {});
  CHECK_EQ(kNoNode, empty->entry().node);
}

TEST(graphs_of_another_degree_and_parts_without_one_are_taken_in) {
  Pieces pieces;
  pieces.emplace_back(1200, 7, 12);
  pieces.emplace_back(600, 8);
  pieces.emplace_back(500, 9);
  check_as_good_as_built(pieces);
  const std::vector<float> values = live_rows(pieces);
  const Vectors vectors = rows_of(values, kDim);
  std::vector<MergePart> parts = parts_of(pieces);
  for (MergePart& part : parts) part = {nullptr, {}, part.live};
  const auto merged = merge(kParams, vectors, parts, 2, {});
  CHECK_EQ(std::size_t{0}, validate(*merged, 2300).unreachable);
  CHECK(recall(*merged, vectors, 2300) > 0.9);
}

TEST(largest_graph_keeps_its_links_where_nothing_is_left_out) {
  Pieces pieces;
  pieces.emplace_back(10, 10);
  pieces.emplace_back(1000, 11);
  const std::vector<float> values = live_rows(pieces);
  const auto merged = merge(kParams, rows_of(values, kDim), parts_of(pieces), 1, {});
  const MergePart& part = pieces.back().part;
  std::size_t changed = 0;
  for (Node node = 0; node < 1000; ++node) {
    const GraphView::Row before = part.graph->base_row(node);
    const Node* after = merged->base_row(part.order.row_of(node) + 10);
    for (unsigned i = 0; i < used_links(*part.graph, before, 2 * kParams.m); ++i)
      changed += part.order.row_of(part.graph->link(before, i)) + 10 != after[i];
  }
  CHECK(changed < 1000);  // of some 12,000; rows that were full are chosen anew for the ten
}

TEST(any_number_of_threads_gives_the_same_graph) {
  Pieces pieces;
  for (const unsigned seed : {14U, 15U, 16U}) pieces.emplace_back(900, seed);
  for (std::size_t row = 0; row < 900; row += 4) pieces.back().live[row] = 0;
  const std::vector<float> values = live_rows(pieces);
  const std::size_t count = values.size() / kDim;
  const Vectors vectors = rows_of(values, kDim);
  const auto bytes_of = [&](unsigned threads) {
    const auto graph = merge(kParams, vectors, parts_of(pieces), threads, {});
    std::vector<std::uint8_t> bytes(serialized_bytes(*graph, count));
    serialize(*graph, count, Metric::kL2, kDim, bytes.data());
    return bytes;
  };
  CHECK(bytes_of(1) == bytes_of(4));
}

TEST(a_link_that_leads_nowhere_is_found) {
  for (const std::size_t damaged : {0, 1}) {
    Pieces pieces;
    pieces.emplace_back(500, 12);
    pieces.emplace_back(300, 13);
    const Node bad = 500;
    std::vector<std::uint8_t>& bytes = damaged == 0 ? pieces.front().bytes : pieces.back().bytes;
    std::copy_n(reinterpret_cast<const std::uint8_t*>(&bad), sizeof bad, bytes.data() + 128);
    const std::vector<float> values = live_rows(pieces);
    const auto error = thrown_by<Error>([&] { merge(kParams, rows_of(values, kDim), parts_of(pieces), 2, {}); });
    CHECK(error.kind() == ErrorKind::kCorruption);
    CHECK_EQ(std::string("node 0 of the graph has a link to a node that does not exist on level 0"),
             std::string(error.what()));
  }
}

TEST(upper_links_to_nodes_that_do_not_reach_up_are_refused) {
  Pieces pieces;
  Piece& piece = pieces.emplace_back(300, 1);
  Node high = 0;
  Node low = 0;
  while (piece.view.level(high) == 0) ++high;
  while (piece.view.level(low) != 0) ++low;
  auto* row = const_cast<std::uint8_t*>(piece.view.upper_row(high, 1));
  std::fill_n(row, piece.view.row_bytes(1), std::uint8_t{0});
  for (unsigned i = 0; i < kParams.m; ++i) LinkPacking::of(300).store(row, i, i == 0 ? low : kNoNode);
  const std::vector<float> values = live_rows(pieces);
  const std::vector<MergePart> parts = parts_of(pieces);
  const Error refused = thrown_by<Error>([&] { merge(kParams, rows_of(values, kDim), parts, 1, {}); });
  CHECK(refused.kind() == ErrorKind::kCorruption);
  CHECK(std::string(refused.what()).find("node " + std::to_string(high)) != std::string::npos);
}
