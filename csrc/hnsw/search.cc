#include "hnsw/search.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>
#include <vector>

#include "common/error.h"
#include "common/thread_pool.h"
#include "hnsw/code_probe.h"
#include "hnsw/nearest.h"
#include "hnsw/passing.h"
#include "hnsw/plan.h"
#include "hnsw/scan.h"
#include "hnsw/walk.h"

namespace akidb::hnsw {

namespace {

template <class G>
class Searcher {
 public:
  Searcher(const G& graph, const Vectors& vectors, const Request& request)
      : graph_(graph),
        vectors_(vectors),
        request_(request),
        passes_(vectors.order, request.count, request.allowed, request.removals, request.removed_count),
        plan_(request, vectors, passes_, graph.m()) {
    if (plan_.is_scan() && (plan_.vectors_are_cheaper(1) || !plan_.scans_in_order())) list_ = listed();
  }

  void operator()(std::size_t query, std::int64_t* out_rows, float* out_distances) const {
    request_.stop.check();
    Scratch& scratch = Scratch::of_this_thread();
    const void* point = static_cast<const std::uint8_t*>(request_.queries) + query * vectors_.row_bytes();
    const float norm = vectors_.metric == Metric::kCosine ? inverse_norm(vectors_.type, point, vectors_.dim) : 0.0F;
    const Probe probe(vectors_, point, norm);
    const Node left_out = request_.left_out == nullptr ? kNoNode : vectors_.order.node_of(request_.left_out[query]);
    if (request_.codes == nullptr) {
      write(find(probe, left_out, scratch).candidates, out_rows, out_distances);
    } else {
      scratch.query.prepare(*request_.codes, vectors_.type, point, norm);
      const CodeProbe by_codes(*request_.codes, scratch.query);
      Found found = compare_again(probe, find(by_codes, left_out, scratch), scratch);
      // Where the nearest do not pass, the answer is of a shell of nodes that are nearly as far as each other, more
      // than codes tell apart.
      if (found.is_open) found = scan_exactly(probe, left_out, scratch);
      write(found.candidates, out_rows, out_distances);
    }
  }

 private:
  using Candidates = std::span<const Candidate>;  // nearest first

  struct Found {
    Candidates candidates;
    std::size_t certain = 0;  // those at the least to be compared again
    bool is_open = false;     // of a scan: those beyond the last may be as near, as far as codes tell
  };

  // Walks as without a filter, and where too few of those met pass goes on over the others met, comparing only those of
  // their neighbours that pass; walks anew, wider, where that does not do either, until comparing all that pass costs
  // less. That is the end where what is near the query is not allowed: the answer is then spread over a wide shell, of
  // which no order of clusters found .95 without half of the passing nodes, and walking among passing nodes alone, as
  // ACORN does (Patel et al., arXiv 2403.04871), a third.
  template <class P>
  Found find(const P& probe, Node left_out, Scratch& scratch) const {
    if (passes_.total() == 0 || graph_.entry().node == kNoNode) return {};
    if (plan_.is_scan()) return scan(probe, left_out, 1, scratch);
    if (passes_.everything()) {
      begin_walk(probe, left_out, plan_.ef(), scratch, [](float, Node) {});
      search_layer(graph_, probe, 0, &request_.stop, scratch);
      const Candidates found(scratch.pool.begin(), scratch.pool.end());
      if (request_.count >= graph_.limit()) return walked(found);
      // Else nodes of an add that is under way may be among those that are told, or compared again.
      const Candidates told = request_.codes == nullptr ? found.first(std::min(request_.k, found.size())) : found;
      const auto is_late = [&](const Candidate& each) { return vectors_.order.row_of(each.node) >= request_.count; };
      if (std::none_of(told.begin(), told.end(), is_late)) return walked(found);
    }
    for (std::size_t width = plan_.first_width();;) {
      scratch.met.clear();
      const auto note = [&](float distance, Node node) { scratch.met.push_back({distance, node}); };
      begin_walk(probe, left_out, width, scratch, note);
      walk_layer(graph_, probe, 0, &request_.stop, scratch, note);
      if (keep_passing(scratch) <= width) return walked(scratch.candidates);
      const std::vector<Candidate>& met = scratch.met;
      const auto passing = static_cast<std::size_t>(
          std::count_if(met.begin(), met.end(), [this](const Candidate& each) { return passes_(each.node); }));
      const std::size_t rank = guessed_rank(met.size(), passing);
      const bool is_against = plan_.is_against(passing, met.size());
      // Against the query, the k-th lies beyond all that were met.
      std::size_t reach = plan_.reach_for(is_against ? std::max(rank, 2 * met.size()) : rank);
      if (!is_against && goes_on(probe, width, reach, scratch)) return walked(scratch.candidates);
      if (plan_.scan_is_cheaper(reach, 0)) break;
      width *= passing == 0 ? 4 : 2;
    }
    return scan(probe, left_out, Plan::kMore, scratch);
  }

  // From a walk of that width to the neighbours that pass of the others it met, as far as the k-th of these asks for,
  // by a guess `reach`, which becomes what was seen to be asked for. Whether enough are found.
  template <class P>
  bool goes_on(const P& probe, std::size_t width, std::size_t& reach, Scratch& scratch) const {
    Candidates met = sorted_nearest(scratch.met, 2 * reach, scratch.sorted);
    std::size_t rank = rank_of_last(met);
    if (plan_.reach_for(rank) > met.size()) {
      met = sorted_nearest(scratch.met, scratch.met.size(), scratch.sorted);
      rank = rank_of_last(met);
    }
    reach = strays(rank) ? request_.count : plan_.reach_for(rank);
    if (plan_.scan_is_cheaper(0, reach - std::min(reach, width))) return false;
    SortedPool& pool = scratch.pool;
    // The walk has expanded what its pool held, of those at its last distance the ones that came first.
    const float edge = pool.candidate(pool.size() - 1).distance;
    std::vector<Candidate>& equal = scratch.mates;
    equal.clear();
    for (std::size_t i = pool.size(); i > 0 && pool.candidate(i - 1).distance == edge; --i)
      equal.push_back(pool.candidate(i - 1));
    const bool is_plateau = equal.size() == pool.size();
    const std::size_t held = std::max(2 * reach, width);
    pool.assign(met.first(std::min(met.size(), held)), held, [&](const Candidate& each) {
      return each.distance < edge || (each.distance == edge && std::binary_search(equal.rbegin(), equal.rend(), each));
    });
    for (std::size_t reached = width;;) {
      reach = keep_passing(scratch);
      const std::size_t found = scratch.candidates.size();
      // Equal vectors have few links to each other, so that those that pass are not all met from those that do.
      if (is_plateau && found >= request_.k && scratch.candidates[request_.k - 1].distance > edge) return false;
      if (found == passes_.total() || (found >= request_.k && reach <= reached)) return true;
      if (reach > held || reached >= pool.size() || plan_.scan_is_cheaper(0, reach - reached)) return false;
      reached = reach;
      pool.set_horizon(reached);
      walk_admitted(graph_, probe, request_.stop, scratch, passes_);
    }
  }

  // Under inner product links lead to the longest vectors, and hardly from one of those behind the nearest to another:
  // of 20,000 x 24 with clusters and lengths of their own, .39 to .83 of the ten behind the 100 nearest were found. A
  // few more than is_far asks for, as the first that passes lies so far back by chance for one query in eight.
  bool strays(std::size_t rank) const {
    constexpr std::size_t kByChance = 8;
    return vectors_.metric == Metric::kInnerProduct && plan_.is_far(rank, kByChance) && lengths_differ();
  }

  // Whether they deviate from their mean by more than an eighth of it, by a few. Without the 200 nearest .952 and more
  // were found where they deviate by a tenth or less, .877 by a fifth (20,000 x 24; asked: .95).
  bool lengths_differ() const {
    constexpr std::size_t kSample = 32;
    constexpr double kDeviation = 1.0 / 8;
    double sum = 0.0;
    double squares = 0.0;
    for (std::size_t i = 0; i < kSample; ++i) {
      const void* row = vectors_.row(static_cast<Node>(i * request_.count / kSample));
      const auto inverse = static_cast<double>(inverse_norm(vectors_.type, row, vectors_.dim));
      const double length = inverse == 0.0 ? 0.0 : 1.0 / inverse;
      sum += length;
      squares += length * length;
    }
    return squares * kSample > sum * sum * (1.0 + kDeviation * kDeviation);
  }

  // How far back the k-th that passes lies.
  std::size_t rank_of_last(Candidates candidates) const {
    std::size_t passing = 0;
    for (std::size_t i = 0; i < candidates.size(); ++i) {
      passing += passes_(candidates[i].node) ? 1 : 0;
      if (passing == request_.k) return i + 1;
    }
    return guessed_rank(candidates.size(), passing);
  }

  // The same where of `size` nodes that many pass, fewer than k.
  std::size_t guessed_rank(std::size_t size, std::size_t passing) const {
    return size * request_.k / std::max<std::size_t>(passing, 1) + 1;
  }

  Found walked(Candidates candidates) const { return {candidates, least_compared()}; }
  // As many as tell how far estimates err.
  std::size_t least_compared() const { return std::max<std::size_t>(request_.k, 8); }

  // Leaves in scratch.candidates those of the pool that pass; returns how many nodes' neighbours must have been looked
  // at for them to do.
  std::size_t keep_passing(Scratch& scratch) const {
    scratch.candidates.clear();
    const std::size_t size = scratch.pool.size();
    std::size_t rank = 0;  // of the k-th
    for (std::size_t i = 0; i < size; ++i) {
      const Candidate candidate = scratch.pool.candidate(i);
      if (!passes_(candidate.node)) continue;
      scratch.candidates.push_back(candidate);
      if (scratch.candidates.size() == request_.k) rank = i + 1;
    }
    return plan_.reach_for(rank == 0 ? guessed_rank(size, scratch.candidates.size()) : rank);
  }

  std::vector<Node> listed() const {
    return plan_.vectors_are_cheaper(1) || plan_.is_scattered() ? passes_.by_row() : passes_.by_node();
  }

  template <class P>
  Found scan(const P& probe, Node left_out, std::size_t times, Scratch& scratch) const {
    const bool is_by_codes = request_.codes != nullptr;
    if (is_by_codes && plan_.vectors_are_cheaper(times)) return {{}, 0, true};
    const std::size_t wanted = is_by_codes ? plan_.kept(times) : request_.k;
    Nearest nearest(wanted, scratch.candidates);
    if (plan_.scans_in_order()) {
      scan_all(probe, request_.count, request_.stop, nearest,
               [&](Node node) { return node != left_out && passes_(node); });
    } else {
      const std::vector<Node> own = list_.empty() ? listed() : std::vector<Node>();
      scan_nodes(probe, list_.empty() ? own : list_, request_.stop, nearest,
                 [&](Node node) { return node != left_out; });
    }
    // Far from the query, where walks end in scans, codes tell near and far apart less well.
    const Candidates found = nearest.sorted(scratch.sorted);
    return {found, 2 * least_compared(), is_by_codes && found.size() == wanted && wanted < passes_.total()};
  }

  // By the vectors of all that pass, as they lie: of a file these become resident.
  Found scan_exactly(const Probe& probe, Node left_out, Scratch& scratch) const {
    Nearest nearest(request_.k, scratch.candidates);
    const std::vector<Node> own =
        !plan_.vectors_are_cheaper(1) || list_.empty() ? passes_.by_row() : std::vector<Node>();
    scan_nodes(probe, own.empty() ? list_ : own, request_.stop, nearest, [&](Node node) { return node != left_out; });
    return {nearest.sorted(scratch.sorted)};
  }

  // Leaves in the pool what the descent compares: that are candidates on level 0 as well, where every node is.
  template <class P, class Note>
  void begin_walk(const P& probe, Node left_out, std::size_t width, Scratch& scratch, const Note& note) const {
    const EntryPoint entry = graph_.entry();
    scratch.visited.begin(graph_.limit());
    if (left_out != kNoNode) scratch.visited.insert(left_out);
    const Candidate start{probe(entry.node), entry.node};
    scratch.visited.insert(start.node);
    scratch.pool.reset(std::min(width, graph_.limit()));
    const auto take = [&](float distance, Node node) {
      note(distance, node);
      scratch.pool.insert({distance, node});
    };
    take(start.distance, start.node);
    descend(graph_, probe, start, entry.level, 0, scratch, take);
  }

  // Compares candidates again, by a probe that errs less than what they were found by, in their order: until the next
  // one's distance so far is above the k-th of the new ones by more than what estimates are seen to err. Calls
  // keep(candidate) for all that were compared, and leaves the k nearest of them in scratch.exact. (With 2 deviations
  // instead of 3, .003 of recall@10 at ef 50 were lost on 100,000 x 128, and 15 rows compared instead of 17.) Where all
  // are and more were there, it is open whether these would be nearer.
  template <class P, class Keep>
  Found compare(const P& probe, const Found& found, Scratch& scratch, const Keep& keep) const {
    constexpr double kDeviations = 3.0;
    constexpr std::size_t kAhead = 8;
    const Candidates all = found.candidates;
    SortedPool& nearest = scratch.exact;
    nearest.reset(std::min(all.size(), request_.k));
    bool is_open = found.is_open;
    for (std::size_t i = 0; i < std::min(kAhead, all.size()); ++i) probe.prefetch_row(all[i].node);
    double squares = 0.0;
    for (std::size_t i = 0; i < all.size(); ++i) {
      if ((i + 1) % kHopsPerCheck == 0) request_.stop.check();
      if (i >= std::max(found.certain, request_.k)) {
        const double farthest = static_cast<double>(nearest.begin()[request_.k - 1].distance);
        if (static_cast<double>(all[i].distance) >
            farthest + kDeviations * std::sqrt(squares / static_cast<double>(i))) {
          is_open = false;
          break;
        }
      }
      if (i + kAhead < all.size()) probe.prefetch_row(all[i + kAhead].node);
      const float distance = probe(all[i].node);
      const double error = static_cast<double>(distance) - static_cast<double>(all[i].distance);
      squares += error * error;
      const Candidate again{distance, all[i].node};
      nearest.insert(again);
      keep(again);
    }
    return {{nearest.begin(), nearest.end()}, least_compared(), is_open};
  }

  // By fine codes, where there are some, and then by vectors. How many of those compared by fine codes are compared by
  // vectors is for these to tell: of a dense cluster whose points are nearer each other than fine codes tell, the k
  // nearest are anywhere among them.
  Found compare_again(const Probe& probe, const Found& found, Scratch& scratch) const {
    if (request_.codes->fine_rows == nullptr) return compare_exactly(probe, found, scratch);
    std::vector<Candidate>& compared = scratch.met;
    compared.clear();
    const Found refined = compare(FineProbe(*request_.codes, scratch.query), found, scratch,
                                  [&](const Candidate& each) { compared.push_back(each); });
    Found exact =
        compare_exactly(probe, {sorted_nearest(compared, compared.size(), scratch.sorted), refined.certain}, scratch);
    exact.is_open = refined.is_open;
    return exact;
  }

  Found compare_exactly(const Probe& probe, const Found& found, Scratch& scratch) const {
    const auto keep = [](const Candidate&) {};
    if (!vectors_.file) return compare(probe, found, scratch, keep);
    if (scratch.row.size() < vectors_.file.row_bytes)
      scratch.row = AlignedBuffer<std::uint8_t>(vectors_.file.row_bytes);
    return compare(FileProbe(vectors_, probe, scratch.row.data()), found, scratch, keep);
  }

  void write(Candidates found, std::int64_t* out_rows, float* out_distances) const {
    const std::size_t k = request_.k;
    for (std::size_t i = 0; i < k; ++i) {
      out_rows[i] = i < found.size() ? row_of(found[i].node) : -1;
      out_distances[i] = i < found.size() ? found[i].distance : std::numeric_limits<float>::infinity();
    }
  }

  // Where the order's two arrays contradict each other, one may list a node for a row that passes, and the other tell
  // of one that does not.
  std::int64_t row_of(Node node) const {
    const Node row = vectors_.order.row_of(node);
    if (!passes_.row_passes(row)) throw Error(ErrorKind::kCorruption, "the graph's order of nodes is damaged");
    return static_cast<std::int64_t>(row);
  }

  const G& graph_;
  const Vectors& vectors_;
  const Request& request_;
  const Passing passes_;
  const Plan plan_;
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
