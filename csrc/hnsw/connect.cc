#include "hnsw/connect.h"

#include <algorithm>
#include <iterator>
#include <limits>
#include <numeric>
#include <span>
#include <vector>

#include "common/thread_pool.h"
#include "hnsw/insert.h"
#include "hnsw/walk.h"

namespace akidb::hnsw {

namespace {

class Connector {
 public:
  Connector(Graph& graph, const Vectors& vectors, std::size_t count)
      : graph_(graph), vectors_(vectors), count_(count), reached_(count, false) {}

  std::size_t run() {
    reach(graph_.entry().node);
    std::size_t attached = 0;
    for (Node node = 0; node < count_; ++node) {
      if (reached_[node]) continue;
      attach(node);
      ++attached;
      reach(node);
    }
    return attached;
  }

 private:
  void reach(Node from) {
    reached_[from] = true;
    open_.assign(1, from);
    while (!open_.empty()) {
      const Node* row = graph_.base_row(open_.back());
      open_.pop_back();
      for (std::size_t i = 0; i < used(row); ++i) {
        if (reached_[row[i]]) continue;
        reached_[row[i]] = true;
        open_.push_back(row[i]);
      }
    }
  }

  // In a host's full row the node takes the place of the last link, and goes on to where that one led. A link of its
  // own that has to go for that leads to nothing that was reached by it, as it was not.
  void attach(Node node) {
    const Node host = find_host(node);
    Node* hosts = graph_.row(host, 0);
    const std::size_t taken = used(hosts);
    if (taken < degree()) {
      Graph::store(hosts + taken, node);
      return;
    }
    Node* own = graph_.row(node, 0);
    const std::size_t own_taken = used(own);
    const Node last = hosts[degree() - 1];
    if (std::find(own, own + own_taken, last) == own + own_taken)
      Graph::store(own + std::min<std::size_t>(own_taken, degree() - 1), last);
    Graph::store(hosts + degree() - 1, node);
  }

  // A reachable node near this one, with room in its row if there is such.
  Node find_host(Node node) {
    const Node* row = graph_.base_row(node);
    hosts_.clear();
    std::copy_if(row, row + used(row), std::back_inserter(hosts_), [this](Node link) { return reached_[link]; });
    if (hosts_.empty()) nearest_reachable(node);
    const auto roomy = std::find_if(hosts_.begin(), hosts_.end(),
                                    [this](Node host) { return used(graph_.base_row(host)) < degree(); });
    return roomy == hosts_.end() ? hosts_.front() : *roomy;
  }

  void nearest_reachable(Node node) {
    const Probe probe(vectors_, node);
    Scratch& scratch = Scratch::of_this_thread();
    const EntryPoint entry = graph_.entry();
    scratch.visited.begin(graph_.limit());
    scratch.visited.insert(entry.node);
    Candidate nearest{probe(entry.node), entry.node};
    nearest = descend(graph_, probe, nearest, entry.level, 0, scratch, [](float, Node) {});
    if (!reached_[nearest.node]) nearest = {probe(entry.node), entry.node};
    scratch.visited.begin(graph_.limit());
    scratch.visited.insert(nearest.node);
    scratch.pool.reset(graph_.params().ef_construction);
    scratch.pool.insert(nearest);
    search_layer(graph_, probe, 0, nullptr, scratch);
    for (const Candidate& candidate : scratch.pool) {
      if (reached_[candidate.node]) hosts_.push_back(candidate.node);
    }
  }

  unsigned degree() const { return graph_.degree(0); }
  std::size_t used(const Node* row) const { return used_links(graph_, row, degree()); }

  Graph& graph_;
  const Vectors& vectors_;
  std::size_t count_;
  std::vector<bool> reached_;
  std::vector<Node> open_;
  std::vector<Node> hosts_;
};

// Where the walk of `lead_back` ends, kNoNode where it leads back.
Node astray(const Graph& graph, const Vectors& vectors, Node node, unsigned level) {
  const Probe probe(vectors, node);
  Candidate nearest{std::numeric_limits<float>::infinity(), node};
  for (Node from = kNoNode; from != nearest.node;) {
    from = nearest.node;
    const Node* row = graph.row(from, level);
    const std::span<const Node> links(row, used_links(graph, row, graph.degree(level)));
    if (std::find(links.begin(), links.end(), node) != links.end()) return kNoNode;
    // Of equally near ones the first: to go by their numbers too would lead through all of many equal vectors.
    compare_nodes(probe, links, [&](float distance, Node link) {
      if (distance < nearest.distance) nearest = {distance, link};
    });
  }
  return nearest.node == node ? kNoNode : nearest.node;
}

}  // namespace

void lead_back(Graph& graph, const Vectors& vectors, std::size_t count, unsigned threads) {
  std::vector<Node> nodes(count);
  std::iota(nodes.begin(), nodes.end(), Node{0});
  std::vector<Node> ends(count);
  for (unsigned level = 0; !nodes.empty(); ++level) {
    ThreadPool::shared().parallel_for(
        nodes.size(), threads, [&](std::size_t i, unsigned) { ends[i] = astray(graph, vectors, nodes[i], level); });
    for (std::size_t i = 0; i < nodes.size(); ++i) {
      if (ends[i] != kNoNode) take_links(graph, vectors, {}, ends[i], level, {&nodes[i], 1});
    }
    std::erase_if(nodes, [&](Node node) { return graph.level(node) == level; });
  }
}

std::size_t connect(Graph& graph, const Vectors& vectors, std::size_t count) {
  return count == 0 || graph.entry().node == kNoNode ? 0 : Connector(graph, vectors, count).run();
}

}  // namespace akidb::hnsw
