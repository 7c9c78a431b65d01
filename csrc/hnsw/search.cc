#include "hnsw/search.h"

#include <algorithm>
#include <limits>
#include <span>
#include <vector>

#include "common/thread_pool.h"
#include "hnsw/code_probe.h"
#include "hnsw/walk.h"

namespace akidb::hnsw {

namespace {

// Which nodes may be returned.
class Passing {
 public:
  explicit Passing(const Request& request)
      : count_(request.count), allowed_(request.allowed), removed_(request.removed) {}

  bool everything() const { return allowed_ == nullptr && removed_ == nullptr; }
  bool operator()(Node node) const {
    if (node >= count_) return false;
    if (allowed_ != nullptr && allowed_[node] == 0) return false;
    return removed_ == nullptr || __atomic_load_n(removed_ + node, __ATOMIC_RELAXED) == 0;
  }
  std::size_t total() const {
    std::size_t total = 0;
    for (std::size_t node = 0; node < count_; ++node) total += (*this)(static_cast<Node>(node)) ? 1 : 0;
    return total;
  }

 private:
  std::size_t count_;
  const std::uint8_t* allowed_;
  const std::uint8_t* removed_;
};

// Where a share of the nodes passes, a walk compares about 0.6 m ef / share vectors, in an order that misses the
// caches; a scan compares those that pass, in memory order, at about a third of the price each. Both figures measured
// with m = 16, ef 50 and 200, shares from 1/2 to 1/200 on 100,000 x 128 generated vectors and on 40,000 x 384 sentence
// embeddings: the cheaper way is chosen in all but the closest cases.
bool scan_is_cheaper(std::size_t passing, std::size_t count, std::size_t ef, unsigned m) {
  constexpr double kScanPrice = 0.35;
  constexpr double kFreshShare = 0.6;  // of a node's m links that lead to nodes not seen before
  const double share = static_cast<double>(passing) / static_cast<double>(count);
  return kScanPrice * static_cast<double>(passing) * share < kFreshShare * m * static_cast<double>(ef);
}

template <class G>
class Searcher {
 public:
  Searcher(const G& graph, const Vectors& vectors, const Request& request)
      : graph_(graph), vectors_(vectors), request_(request), passes_(request), ef_(std::max(request.ef, request.k)) {
    if (passes_.everything()) return;
    const std::size_t passing = passes_.total();
    scans_ = request.allowed != nullptr && scan_is_cheaper(passing, request.count, ef_, graph.m());
    if (!scans_) return;
    few_.reserve(passing);
    for (Node node = 0; node < request.count; ++node) {
      if (passes_(node)) few_.push_back(node);
    }
  }

  void operator()(std::size_t query, std::int64_t* out_nodes, float* out_distances) const {
    request_.stop.check();
    Scratch& scratch = Scratch::of_this_thread();
    const float* point = request_.queries + query * vectors_.dim;
    const float norm = vectors_.metric == Metric::kCosine ? inverse_norm(point, vectors_.dim) : 0.0F;
    const Probe probe(vectors_, point, norm);
    Found found;
    if (scans_) {
      found = scan(probe, scratch.pool);
    } else if (graph_.entry().node != kNoNode) {
      scratch.visited.begin(graph_.limit());
      if (request_.left_out != nullptr) scratch.visited.insert(request_.left_out[query]);
      if (request_.codes == nullptr) {
        found = walk(probe, scratch);
      } else {
        scratch.query.prepare(*request_.codes, point, norm);
        found = compare_exactly(probe, walk(CodeProbe(*request_.codes, scratch.query), scratch), scratch.exact);
      }
    }
    write(found, out_nodes, out_distances);
  }

 private:
  using Found = std::span<const Candidate>;  // nearest first

  Found scan(const Probe& probe, SortedPool& pool) const {
    constexpr std::size_t kBlock = 1024;
    float distances[kBlock];
    pool.reset(request_.k);
    for (std::size_t first = 0; first < few_.size(); first += kBlock) {
      request_.stop.check();
      const std::size_t count = std::min(kBlock, few_.size() - first);
      probe(few_.data() + first, count, distances);
      for (std::size_t i = 0; i < count; ++i) pool.insert({distances[i], few_[first + i]});
    }
    return {pool.begin(), pool.end()};
  }

  // What the descent compares are candidates on level 0 as well, where every node is.
  template <class P>
  Found walk(const P& probe, Scratch& scratch) const {
    const EntryPoint entry = graph_.entry();
    const Candidate start{probe(entry.node), entry.node};
    scratch.visited.insert(start.node);
    if (passes_.everything()) {
      scratch.pool.reset(ef_);
      const auto take = [&](float distance, Node node) { scratch.pool.insert({distance, node}); };
      take(start.distance, start.node);
      descend(graph_, probe, start, entry.level, 0, scratch, take);
      search_layer(graph_, probe, 0, &request_.stop, scratch);
      return {scratch.pool.begin(), scratch.pool.end()};
    }
    scratch.heaps.reset(ef_);
    const auto take = [&](float distance, Node node) {
      if (scratch.heaps.would_take(distance)) scratch.heaps.insert({distance, node}, passes_(node));
    };
    take(start.distance, start.node);
    descend(graph_, probe, start, entry.level, 0, scratch, take);
    walk_through(probe, scratch, take);
    return scratch.heaps.sorted();
  }

  // Algorithm 2 where only some nodes may be found: all are candidates for expansion, those that pass are results.
  template <class P, class Take>
  void walk_through(const P& probe, Scratch& scratch, const Take& take) const {
    unsigned hops = 0;
    for (Node node = kNoNode; scratch.heaps.next(node);) {
      if (++hops % 256 == 0) request_.stop.check();
      expand(graph_, probe, node, graph_.base_row(node), graph_.degree(0), scratch, take);
    }
  }

  // The k nearest by their vectors. Codes put candidates in nearly the right order, so once a whole block brings
  // nothing into the result, those behind it would not either: twice k are looked at in any case, all of them rarely.
  Found compare_exactly(const Probe& probe, Found found, SortedPool& exact) const {
    const std::size_t block = std::max<std::size_t>(8, request_.k / 2);
    exact.reset(request_.k);
    for (const Candidate& candidate : found.first(std::min(block, found.size()))) probe.prefetch_row(candidate.node);
    for (std::size_t first = 0; first < found.size(); first += block) {
      const std::size_t end = std::min(first + block, found.size());
      for (std::size_t i = end; i < std::min(end + block, found.size()); ++i) probe.prefetch_row(found[i].node);
      bool brought = false;
      for (std::size_t i = first; i < end; ++i) brought |= exact.insert({probe(found[i].node), found[i].node});
      if (!brought && end >= 2 * request_.k) break;
    }
    return {exact.begin(), exact.end()};
  }

  void write(Found found, std::int64_t* out_nodes, float* out_distances) const {
    const std::size_t k = request_.k;
    for (std::size_t i = 0; i < k; ++i) {
      out_nodes[i] = i < found.size() ? static_cast<std::int64_t>(found[i].node) : -1;
      out_distances[i] = i < found.size() ? found[i].distance : std::numeric_limits<float>::infinity();
    }
  }

  const G& graph_;
  const Vectors& vectors_;
  const Request& request_;
  const Passing passes_;
  const std::size_t ef_;
  bool scans_ = false;
  std::vector<Node> few_;  // the nodes that pass, where they are so few that they are scanned
};

}  // namespace

template <class G>
void search(const G& graph, const Vectors& vectors, const Request& request, std::int64_t* out_nodes,
            float* out_distances) {
  const Searcher<G> searcher(graph, vectors, request);
  ThreadPool::shared().parallel_for(request.query_count, request.threads, [&](std::size_t query, unsigned) {
    searcher(query, out_nodes + query * request.k, out_distances + query * request.k);
  });
}

template void search(const Graph&, const Vectors&, const Request&, std::int64_t*, float*);
template void search(const GraphView&, const Vectors&, const Request&, std::int64_t*, float*);

}  // namespace akidb::hnsw
