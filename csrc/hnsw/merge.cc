#include "hnsw/merge.h"

#include <algorithm>
#include <iterator>
#include <utility>
#include <vector>

#include "common/thread_pool.h"
#include "hnsw/connect.h"
#include "hnsw/repair.h"
#include "hnsw/validate.h"

namespace akidb::hnsw {

namespace {

// Where one part's nodes go.
struct Placed {
  const MergePart* part = nullptr;
  Node first = 0;                // number of its first live row among all
  std::vector<Node> new_number;  // per node of its graph; kNoNode: left out
  std::vector<Node> old_number;  // per live row its node

  std::size_t count() const { return old_number.size(); }
};

std::vector<Placed> place(std::span<const MergePart> parts) {
  std::vector<Placed> placed;
  Node next = 0;
  for (const MergePart& part : parts) {
    Placed& out = placed.emplace_back();
    out.part = &part;
    out.first = next;
    out.new_number.assign(part.live.size(), kNoNode);
    for (Node row = 0; row < part.live.size(); ++row) {
      if (part.live[row] == 0) continue;
      const Node old = part.order.node_of(row);
      out.new_number[old] = next++;
      out.old_number.push_back(old);
    }
  }
  return placed;
}

// The part whose graph is taken over: the largest whose graph has the right degree and was not left by half its nodes.
const Placed* choose_base(const Params& params, std::span<const Placed> placed) {
  const Placed* base = nullptr;
  for (const Placed& candidate : placed) {
    const bool fits = candidate.part->graph != nullptr && candidate.part->graph->m() == params.m &&
                      candidate.count() * 2 >= candidate.new_number.size() && candidate.count() > 0;
    if (fits && (base == nullptr || candidate.count() > base->count())) base = &candidate;
  }
  return base;
}

class Merge {
 public:
  Merge(const Params& params, const Vectors& vectors, std::vector<Placed> placed)
      : vectors_(vectors),
        placed_(std::move(placed)),
        base_(choose_base(params, placed_)),
        count_(placed_.empty() ? 0 : placed_.back().first + placed_.back().count()),
        graph_(std::make_unique<Graph>(params, count_, levels(params))) {}

  std::unique_ptr<Graph> run(unsigned threads, const Progress& progress) {
    if (base_ != nullptr) take_over(threads);
    const std::vector<Node> joining = in_order();
    place_.assign(count_, 0);
    for (std::size_t i = 0; i < joining.size(); ++i) place_[joining[i]] = static_cast<Node>(i) + 1;
    const auto hints = [&](std::size_t i, std::size_t first, std::size_t end) {
      return hint(joining[i], static_cast<Node>(first), static_cast<Node>(end));
    };
    insert_all(*graph_, vectors_, count_, joining, hints, threads, progress);
    lead_back(*graph_, vectors_, count_, threads);
    connect(*graph_, vectors_, count_);
    return std::move(graph_);
  }

 private:
  // The nodes of the base keep theirs.
  std::vector<std::uint8_t> levels(const Params& params) const {
    std::vector<std::uint8_t> out(count_);
    for (Node node = 0; node < count_; ++node) out[node] = static_cast<std::uint8_t>(params.level_of(node));
    for (std::size_t i = 0; base_ != nullptr && i < base_->count(); ++i)
      out[base_->first + i] = static_cast<std::uint8_t>(base_->part->graph->level(base_->old_number[i]));
    return out;
  }

  void take_over(unsigned threads) {
    const Repair<GraphView> repair(*base_->part->graph, base_->new_number, *graph_, vectors_);
    ThreadPool::shared().parallel_for(base_->count(), threads,
                                      [&](std::size_t i, unsigned) { repair(base_->old_number[i]); });
    graph_->set_entry(highest(*graph_, base_->first, base_->count()));
  }

  // All but those of the base, the upper levels' first.
  std::vector<Node> in_order() const {
    std::vector<Node> out;
    for (const Placed& placed : placed_) {
      for (std::size_t i = 0; &placed != base_ && i < placed.count(); ++i)
        out.push_back(placed.first + static_cast<Node>(i));
    }
    std::stable_partition(out.begin(), out.end(), [this](Node node) { return graph_->level(node) > 0; });
    return out;
  }

  // Its neighbours in its part's graph, as far as they are in the graph or come with it. Nothing for the upper levels,
  // whose nodes are to join every region to the rest, and for a part without a graph.
  std::optional<Hint> hint(Node node, Node first, Node end) const {
    const Placed& placed = *std::prev(std::upper_bound(
        placed_.begin(), placed_.end(), node, [](Node value, const Placed& other) { return value < other.first; }));
    if (placed.part->graph == nullptr || graph_->level(node) > 0) return std::nullopt;
    thread_local std::vector<Node> near;
    thread_local std::vector<Node> mates;
    near.clear();
    mates.clear();
    const GraphView& graph = *placed.part->graph;
    const Node old = placed.old_number[node - placed.first];
    const GraphView::Row row = graph.base_row(old);
    for (unsigned i = 0; i < used_links(graph, row, graph.degree(0)); ++i) {
      const Node link = graph.link(row, i);
      if (link >= placed.new_number.size()) throw_bad_link(old);
      const Node neighbor = placed.new_number[link];
      if (neighbor == kNoNode) continue;
      if (place_[neighbor] <= first) near.push_back(neighbor);
      if (place_[neighbor] > first && place_[neighbor] <= end) mates.push_back(neighbor);
    }
    return Hint{near, mates, narrow_ef()};
  }

  // A node's nearest in its own part are known, and only those in other parts are to be found.
  unsigned narrow_ef() const { return std::max(2 * graph_->m(), graph_->params().ef_construction / 4); }

  const Vectors& vectors_;
  const std::vector<Placed> placed_;
  const Placed* const base_;
  const std::size_t count_;
  std::unique_ptr<Graph> graph_;
  std::vector<Node> place_;  // of each node that joins, counted from 1; 0: it is of the base
};

}  // namespace

std::unique_ptr<Graph> merge(const Params& params, const Vectors& vectors, std::span<const MergePart> parts,
                             unsigned threads, const Progress& progress) {
  // Links are followed in the new graph, where a node has no rows above its level: bytes that lie would lead outside.
  for (const MergePart& part : parts) {
    if (part.graph != nullptr) validate(*part.graph, part.graph->count());
  }
  return Merge(params, vectors, place(parts)).run(threads, progress);
}

}  // namespace akidb::hnsw
