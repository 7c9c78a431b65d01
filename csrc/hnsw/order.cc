#include "hnsw/order.h"

#include <algorithm>
#include <array>
#include <span>

#include "common/error.h"
#include "hnsw/graph.h"

namespace akidb::hnsw {

namespace {

constexpr std::size_t kWindow = 16;

// Nodes by how many links they have with the window, the highest first; a list per number, so that a change of one is
// done in constant time. Numbers beyond the last list count as it does.
class Ranking {
 public:
  explicit Ranking(std::size_t count) : rank_(count, 0), before_(count), after_(count), taken_(count, false) {
    first_.fill(kNoNode);
    for (std::size_t node = count; node-- > 0;) link(static_cast<Node>(node));
  }

  void change(Node node, int by) {
    if (taken_[node]) return;
    unlink(node);
    rank_[node] += by;
    link(node);
    top_ = std::max(top_, list_of(node));
  }

  void take(Node node) {
    unlink(node);
    taken_[node] = true;
  }

  Node highest() {
    while (first_[top_] == kNoNode) --top_;
    return first_[top_];
  }

 private:
  static constexpr std::size_t kLists = 256;

  std::size_t list_of(Node node) const {
    return std::min<std::size_t>(static_cast<std::size_t>(rank_[node]), kLists - 1);
  }

  void link(Node node) {
    Node& first = first_[list_of(node)];
    before_[node] = kNoNode;
    after_[node] = first;
    if (first != kNoNode) before_[first] = node;
    first = node;
  }

  void unlink(Node node) {
    if (before_[node] == kNoNode) {
      first_[list_of(node)] = after_[node];
    } else {
      after_[before_[node]] = after_[node];
    }
    if (after_[node] != kNoNode) before_[after_[node]] = before_[node];
  }

  std::vector<int> rank_;
  std::vector<Node> before_;
  std::vector<Node> after_;
  std::vector<bool> taken_;
  std::array<Node, kLists> first_;
  std::size_t top_ = 0;
};

// Who links to each node, in one array.
class Incoming {
 public:
  Incoming(const Graph& graph, std::size_t count) : starts_(count + 1, 0) {
    for_each_link(graph, count, [&](Node, Node to) { ++starts_[to + 1]; });
    for (std::size_t node = 0; node < count; ++node) starts_[node + 1] += starts_[node];
    from_.resize(starts_[count]);
    std::vector<std::size_t> next(starts_.begin(), starts_.end() - 1);
    for_each_link(graph, count, [&](Node from, Node to) { from_[next[to]++] = from; });
  }

  std::span<const Node> of(Node node) const { return {&from_[starts_[node]], &from_[starts_[node + 1]]}; }

 private:
  template <class Visit>
  static void for_each_link(const Graph& graph, std::size_t count, const Visit& visit) {
    for (Node node = 0; node < count; ++node) {
      const Node* row = graph.base_row(node);
      for (unsigned i = 0; i < used_links(graph, row, graph.degree(0)); ++i) visit(node, row[i]);
    }
  }

  std::vector<std::size_t> starts_;
  std::vector<Node> from_;
};

}  // namespace

void Order::throw_damaged() { throw Error(ErrorKind::kCorruption, "the graph's order of nodes is damaged"); }

void Order::check() const {
  if (rows == nullptr) return;
  for (Node node = 0; node < count; ++node) {
    if (node_of(row_of(node)) != node) throw_damaged();
  }
}

std::vector<Node> locality_order(const Graph& graph, std::size_t count) {
  std::vector<Node> order;
  if (count == 0) return order;
  order.reserve(count);
  Ranking ranking(count);
  const Incoming incoming(graph, count);
  const auto change_linked = [&](Node node, int by) {
    const Node* row = graph.base_row(node);
    for (unsigned i = 0; i < used_links(graph, row, graph.degree(0)); ++i) ranking.change(row[i], by);
    for (const Node from : incoming.of(node)) ranking.change(from, by);
  };
  for (Node node = graph.entry().node;; node = ranking.highest()) {
    ranking.take(node);
    order.push_back(node);
    if (order.size() == count) return order;
    change_linked(node, 1);
    if (order.size() > kWindow) change_linked(order[order.size() - 1 - kWindow], -1);
  }
}

}  // namespace akidb::hnsw
