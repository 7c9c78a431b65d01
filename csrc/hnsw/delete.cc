#include "hnsw/delete.h"

#include <algorithm>
#include <vector>

#include "common/thread_pool.h"
#include "hnsw/connect.h"
#include "hnsw/insert.h"

namespace akidb::hnsw {

namespace {

class Repair {
 public:
  Repair(const Store& from, Store& to, const std::vector<Node>& new_number)
      : from_(from), to_(to), new_number_(new_number), vectors_(to.vectors()) {}

  // Writes the links of a node that stays, given by its old number.
  void operator()(Node old) const {
    for (unsigned level = 0; level <= from_.graph.level(old); ++level) {
      const unsigned degree = from_.graph.degree(level);
      const Node* row = from_.graph.row(old, level);
      const std::size_t used = used_links<Graph>(row, degree);
      std::vector<Node> kept;
      for (std::size_t i = 0; i < used; ++i) {
        if (stays(row[i])) kept.push_back(new_number_[row[i]]);
      }
      if (kept.size() < used) kept = choose(old, kept, row, used, level);
      std::copy(kept.begin(), kept.end(), to_.graph.row(new_number_[old], level));
    }
  }

 private:
  bool stays(Node old) const { return new_number_[old] != kNoNode; }

  // The links that stay are kept without a new trial: many are there only as somebody's link back, and a trial would
  // thin the row out.
  std::vector<Node> choose(Node old, std::vector<Node> kept, const Node* row, std::size_t used, unsigned level) const {
    std::vector<Candidate> candidates = neighbors_of_lost(old, kept, row, used, level);
    for (const Candidate& candidate : candidates) {
      if (kept.size() == used) break;
      const Probe probe(vectors_, candidate.node);
      if (!nearer_to_any(probe, kept, candidate.distance)) kept.push_back(candidate.node);
    }
    return kept;
  }

  // Nearest first.
  std::vector<Candidate> neighbors_of_lost(Node old, const std::vector<Node>& kept, const Node* row, std::size_t used,
                                           unsigned level) const {
    std::vector<Node> nodes;
    for (std::size_t i = 0; i < used; ++i) {
      if (stays(row[i])) continue;
      const Node* lost = from_.graph.row(row[i], level);
      const std::size_t lost_used = used_links<Graph>(lost, from_.graph.degree(level));
      for (std::size_t j = 0; j < lost_used; ++j) {
        if (!stays(lost[j]) || lost[j] == old) continue;
        const Node node = new_number_[lost[j]];
        if (std::find(kept.begin(), kept.end(), node) == kept.end()) nodes.push_back(node);
      }
    }
    std::sort(nodes.begin(), nodes.end());
    nodes.erase(std::unique(nodes.begin(), nodes.end()), nodes.end());
    std::vector<float> distances(nodes.size());
    Probe(vectors_, new_number_[old])(nodes.data(), nodes.size(), distances.data());
    std::vector<Candidate> candidates(nodes.size());
    for (std::size_t i = 0; i < nodes.size(); ++i) candidates[i] = {distances[i], nodes[i]};
    std::sort(candidates.begin(), candidates.end());
    return candidates;
  }

  const Store& from_;
  Store& to_;
  const std::vector<Node>& new_number_;
  const Vectors vectors_;
};

EntryPoint highest(const Graph& graph, std::size_t count) {
  EntryPoint entry;
  for (Node node = 0; node < count; ++node) {
    if (entry.node == kNoNode || graph.level(node) > entry.level) entry = {node, graph.level(node)};
  }
  return entry;
}

}  // namespace

std::shared_ptr<Store> without_removed(const Store& from, std::size_t capacity) {
  const std::size_t count = from.count;
  std::vector<Node> new_number(count, kNoNode);
  std::vector<Node> stay;
  std::vector<std::uint8_t> levels;
  for (Node node = 0; node < count; ++node) {
    if (from.removed[node] != 0) continue;
    new_number[node] = static_cast<Node>(stay.size());
    stay.push_back(node);
    levels.push_back(static_cast<std::uint8_t>(from.graph.level(node)));
  }
  auto to =
      std::make_shared<Store>(from.graph.params(), std::max(capacity, stay.size()), from.dim, from.metric, levels);
  for (const Node node : stay) to->copy_node(from, node, new_number[node]);
  to->count = stay.size();
  if (stay.size() * 2 < count) {
    build(to->graph, to->vectors(), 0, stay.size(), 0, {});
  } else if (stay.size() == count) {
    to->graph.copy_links(from.graph, count);
  } else {
    const Repair repair(from, *to, new_number);
    ThreadPool::shared().parallel_for(stay.size(), 0, [&](std::size_t i, unsigned) { repair(stay[i]); });
    to->graph.set_entry(highest(to->graph, stay.size()));
  }
  connect(to->graph, to->vectors(), stay.size());
  return to;
}

}  // namespace akidb::hnsw
