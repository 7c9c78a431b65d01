#include "hnsw/search.h"

#include <algorithm>
#include <cmath>
#include <cstring>
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
  Passing(const Request& request, const Order& order)
      : order_(order),
        count_(request.count),
        allowed_(request.allowed),
        removed_(request.removed),
        removed_count_(request.removed_count) {}

  bool everything() const { return allowed_ == nullptr && removed_ == nullptr; }
  bool operator()(Node node) const { return passes(order_.row_of(node)); }
  // About how many, 0 only where there are none: who is removed is counted off without a filter only, and that number
  // may run ahead of count_ while a writer is at work.
  std::size_t total() const {
    if (allowed_ != nullptr) return count_allowed();
    return count_ > removed_count_ ? count_ - removed_count_ : std::min<std::size_t>(count_, 1);
  }
  // In the order in which the nodes lie where they are many: then a scan reads on in memory.
  std::vector<Node> list(std::size_t expected) const {
    std::vector<Node> out;
    constexpr std::size_t kSparse = 16;
    if (order_.rows != nullptr && expected > count_ / kSparse) {
      for (Node node = 0; node < count_; ++node) {
        if ((*this)(node)) out.push_back(node);
      }
      return out;
    }
    for (std::size_t row = 0; row < count_; ++row) {
      if (allowed_ != nullptr && row % 8 == 0 && row + 8 <= count_) {  // most of a selective mask is zero
        std::uint64_t eight = 0;
        std::memcpy(&eight, allowed_ + row, sizeof eight);
        if (eight == 0) {
          row += 7;
          continue;
        }
      }
      if (passes(row)) out.push_back(order_.node_of(static_cast<Node>(row)));
    }
    return out;
  }

 private:
  bool passes(std::size_t row) const {
    if (row >= count_) return false;
    if (allowed_ != nullptr && allowed_[row] == 0) return false;
    return removed_ == nullptr || __atomic_load_n(removed_ + row, __ATOMIC_RELAXED) == 0;
  }
  std::size_t count_allowed() const {
    constexpr std::size_t kBlock = 255;
    std::size_t total = 0;
    for (std::size_t first = 0; first < count_; first += kBlock) {  // sums of bytes, which vectorise
      std::uint8_t part = 0;
      for (std::size_t i = first; i < std::min(first + kBlock, count_); ++i)
        part = static_cast<std::uint8_t>(part + (allowed_[i] != 0));
      total += part;
    }
    return total;
  }

  const Order& order_;
  std::size_t count_;
  const std::uint8_t* allowed_;
  const std::uint8_t* removed_;
  std::size_t removed_count_;
};

// Prices in distances of a walk, each of which misses the caches: a scan reads on in memory order. Measured on 100,000
// x 128 and 40,000 x 384.
constexpr double kScanPriceVectors = 0.4;
constexpr double kScanPriceCodes = 0.25;
constexpr double kFreshShare = 0.6;  // of a node's m links that lead to nodes not seen before, of 2m in its row

template <class G>
class Searcher {
 public:
  Searcher(const G& graph, const Vectors& vectors, const Request& request)
      : graph_(graph),
        vectors_(vectors),
        request_(request),
        passes_(request, vectors.order),
        ef_(std::max(request.ef, request.k)),
        passing_(passes_.total()),
        scan_price_(static_cast<double>(passing_) * (request.codes == nullptr ? kScanPriceVectors : kScanPriceCodes)) {
    const std::size_t expected = std::max<std::size_t>(passing_, 1);
    first_width_ = std::max(ef_, width_for(static_cast<double>(request.k) * static_cast<double>(request.count) /
                                           static_cast<double>(expected)));
    if (scan_is_cheaper(first_width_)) list_ = passes_.list(passing_);
  }

  void operator()(std::size_t query, std::int64_t* out_rows, float* out_distances) const {
    request_.stop.check();
    Scratch& scratch = Scratch::of_this_thread();
    const void* point = static_cast<const std::uint8_t*>(request_.queries) + query * vectors_.row_bytes();
    const float norm = vectors_.metric == Metric::kCosine ? inverse_norm(vectors_.type, point, vectors_.dim) : 0.0F;
    const Probe probe(vectors_, point, norm);
    const Node left_out = request_.left_out == nullptr ? kNoNode : vectors_.order.node_of(request_.left_out[query]);
    if (request_.codes == nullptr) {
      write(find(probe, left_out, request_.k, scratch).candidates, out_rows, out_distances);
    } else {
      scratch.query.prepare(*request_.codes, vectors_.type, point, norm);
      const std::size_t kept = std::max(2 * ef_, 10 * request_.k);
      Found found = find(CodeProbe(*request_.codes, scratch.query), left_out, kept, scratch);
      if (request_.codes->fine_rows != nullptr)
        found = compare(FineProbe(*request_.codes, scratch.query), found, scratch.refined);
      write(compare_exactly(probe, found, scratch), out_rows, out_distances);
    }
  }

 private:
  using Candidates = std::span<const Candidate>;  // nearest first

  struct Found {
    Candidates candidates;
    // Those at the least to be compared again. All of a scan: far from the query, where walks end in scans, codes tell
    // near and far apart less well.
    std::size_t certain = 0;
  };

  // How many candidates a walk must keep so that those up to `rank` are as good as the first k are with ef: what is
  // kept beyond them grows with the square root, since a wide walk misses little of its inner part.
  std::size_t width_for(double rank) const {
    const double k = static_cast<double>(std::max<std::size_t>(request_.k, 1));
    const double spare = static_cast<double>(ef_) - k;
    const double width = rank + spare * std::sqrt(std::max(1.0, rank / k));
    return static_cast<std::size_t>(std::min(width, static_cast<double>(request_.count)));
  }

  bool scan_is_cheaper(std::size_t width) const {
    return scan_price_ <= kFreshShare * graph_.m() * static_cast<double>(width);
  }

  // Walks as wide as the share of passing nodes suggests, and where those that pass lie farther back among the
  // candidates again and wider, until comparing all that pass costs less. That is the end where what is near the query
  // is not allowed: the answer is then spread over a wide shell. Walking among passing nodes alone, as ACORN does
  // (Patel et al., arXiv 2403.04871), was fast there and found a third of it. `kept` are kept of a scan.
  template <class P>
  Found find(const P& probe, Node left_out, std::size_t kept, Scratch& scratch) const {
    if (passing_ == 0 || graph_.entry().node == kNoNode) return {};
    std::size_t width = first_width_;
    while (!scan_is_cheaper(width)) {
      walk(probe, left_out, width, scratch);
      if (passes_.everything()) return walked({scratch.pool.begin(), scratch.pool.end()});
      const std::size_t wanted = keep_passing(scratch);
      if (wanted > 0 && wanted <= width + width / 8) return walked(scratch.candidates);
      width = wanted == 0 ? 4 * width : wanted + wanted / 4;
    }
    return scan(probe, left_out, kept, scratch);
  }

  Found walked(Candidates candidates) const { return {candidates, least_compared()}; }
  // As many as tell how far estimates err.
  std::size_t least_compared() const { return std::max<std::size_t>(request_.k, 8); }

  // Leaves in scratch.candidates those of the pool that pass; returns how wide the walk should have been, 0 where fewer
  // than k pass.
  std::size_t keep_passing(Scratch& scratch) const {
    scratch.candidates.clear();
    std::size_t rank = 0;  // of the k-th that passes
    for (std::size_t i = 0; i < scratch.pool.size(); ++i) {
      const Candidate& candidate = scratch.pool.begin()[i];
      if (!passes_(candidate.node)) continue;
      scratch.candidates.push_back(candidate);
      if (scratch.candidates.size() == request_.k) rank = i + 1;
    }
    return rank == 0 ? 0 : width_for(static_cast<double>(rank));
  }

  template <class P>
  Found scan(const P& probe, Node left_out, std::size_t kept, Scratch& scratch) const {
    const std::vector<Node> own = list_.empty() ? passes_.list(passing_) : std::vector<Node>();
    const std::vector<Node>& nodes = list_.empty() ? own : list_;
    constexpr std::size_t kBlock = 256;
    constexpr std::size_t kAhead = 8;
    float distances[kBlock];
    std::vector<Candidate>& all = scratch.candidates;
    all.clear();
    for (std::size_t first = 0; first < nodes.size(); first += kBlock) {
      request_.stop.check();
      const std::size_t end = std::min(first + kBlock, nodes.size());
      std::size_t i = first;
      for (; i + 4 <= end; i += 4) {
        for (std::size_t j = i + kAhead; j < std::min(i + kAhead + 4, nodes.size()); ++j) probe.prefetch_row(nodes[j]);
        probe.four(&nodes[i], distances + (i - first));
      }
      for (; i < end; ++i) distances[i - first] = probe(nodes[i]);
      for (i = first; i < end; ++i) {
        if (nodes[i] != left_out) all.push_back({distances[i - first], nodes[i]});
      }
    }
    const auto end = all.begin() + static_cast<std::ptrdiff_t>(std::min(kept, all.size()));
    std::partial_sort(all.begin(), end, all.end());
    return {{all.begin(), end}, kept};
  }

  // What the descent compares are candidates on level 0 as well, where every node is.
  template <class P>
  void walk(const P& probe, Node left_out, std::size_t width, Scratch& scratch) const {
    const EntryPoint entry = graph_.entry();
    scratch.visited.begin(graph_.limit());
    if (left_out != kNoNode) scratch.visited.insert(left_out);
    const Candidate start{probe(entry.node), entry.node};
    scratch.visited.insert(start.node);
    scratch.pool.reset(std::min(width, graph_.limit()));
    const auto take = [&](float distance, Node node) { scratch.pool.insert({distance, node}); };
    take(start.distance, start.node);
    descend(graph_, probe, start, entry.level, 0, scratch, take);
    search_layer(graph_, probe, 0, &request_.stop, scratch);
  }

  // Compares candidates again, by a probe that errs less than what they were found by, in their order: until the next
  // one's distance so far is above the k-th of the new ones by more than what estimates are seen to err. All that were
  // compared are left in `out`. (With 2 deviations instead of 3, a thousandth of recall@10 was lost on 100,000 x 128,
  // and 15 rows compared instead of 17.)
  template <class P>
  Found compare(const P& probe, const Found& found, SortedPool& out) const {
    constexpr double kDeviations = 3.0;
    constexpr std::size_t kAhead = 8;
    const Candidates all = found.candidates;
    out.reset(all.size());
    for (std::size_t i = 0; i < std::min(kAhead, all.size()); ++i) probe.prefetch_row(all[i].node);
    double squares = 0.0;
    for (std::size_t i = 0; i < all.size(); ++i) {
      if (i >= std::max(found.certain, request_.k)) {
        const double farthest = static_cast<double>(out.begin()[request_.k - 1].distance);
        if (static_cast<double>(all[i].distance) > farthest + kDeviations * std::sqrt(squares / static_cast<double>(i)))
          break;
      }
      if (i + kAhead < all.size()) probe.prefetch_row(all[i + kAhead].node);
      const float distance = probe(all[i].node);
      const double error = static_cast<double>(distance) - static_cast<double>(all[i].distance);
      squares += error * error;
      out.insert({distance, all[i].node});
    }
    return {{out.begin(), out.end()}, least_compared()};
  }

  // By their vectors.
  Candidates compare_exactly(const Probe& probe, const Found& found, Scratch& scratch) const {
    if (!vectors_.file) return compare(probe, found, scratch.exact).candidates;
    if (scratch.row.size() < vectors_.file.row_bytes)
      scratch.row = AlignedBuffer<std::uint8_t>(vectors_.file.row_bytes);
    return compare(FileProbe(vectors_, probe, scratch.row.data()), found, scratch.exact).candidates;
  }

  void write(Candidates found, std::int64_t* out_rows, float* out_distances) const {
    const std::size_t k = request_.k;
    for (std::size_t i = 0; i < k; ++i) {
      out_rows[i] = i < found.size() ? static_cast<std::int64_t>(vectors_.order.row_of(found[i].node)) : -1;
      out_distances[i] = i < found.size() ? found[i].distance : std::numeric_limits<float>::infinity();
    }
  }

  const G& graph_;
  const Vectors& vectors_;
  const Request& request_;
  const Passing passes_;
  const std::size_t ef_;
  const std::size_t passing_;
  const double scan_price_;
  std::size_t first_width_ = 0;
  std::vector<Node> list_;  // the nodes that pass, where they are scanned for every query
};

}  // namespace

template <class G>
void search(const G& graph, const Vectors& vectors, const Request& request, std::int64_t* out_rows,
            float* out_distances) {
  if (request.k == 0) return;
  const Searcher<G> searcher(graph, vectors, request);
  ThreadPool::shared().parallel_for(request.query_count, request.threads, [&](std::size_t query, unsigned) {
    searcher(query, out_rows + query * request.k, out_distances + query * request.k);
  });
}

template void search(const Graph&, const Vectors&, const Request&, std::int64_t*, float*);
template void search(const GraphView&, const Vectors&, const Request&, std::int64_t*, float*);

}  // namespace akidb::hnsw
