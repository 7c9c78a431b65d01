#include "hnsw/cells.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <utility>

#include "common/mix.h"
#include "common/thread_pool.h"
#include "hnsw/candidates.h"

namespace akidb::hnsw {

namespace {

// Smaller cells follow the data more closely, and more leaders are compared with every node: as many as nodes are
// compared with anyway, where there are a million.
constexpr std::size_t kCellNodes = 64;
constexpr std::size_t kLeadersMax = 16384;
constexpr std::size_t kBlock = 64;  // nodes that are compared with all leaders at once
constexpr std::uint64_t kDraw = 0x632BE59BD9B4E019ULL;

}  // namespace

// What a worker needs for a block.
struct Cells::Desk {
  std::vector<quantization::CodedQuery> queries = std::vector<quantization::CodedQuery>(kBlock);
  std::vector<SortedPool> nearest = std::vector<SortedPool>(kBlock);
};

Cells::Cells(const quantization::Codes& codes, const Vectors& vectors, std::span<const Node> nodes, unsigned threads,
             const std::function<void()>& pause)
    : codes_(codes), nodes_(nodes), panels_(codes, 0) {
  choose_leaders();
  width_ = std::min(kLeaders, leaders_.size());
  nearest_.resize(nodes.size() * width_);
  assign(vectors, threads, pause);
  fill(threads);
}

void Cells::choose_leaders() {
  const std::size_t wanted = std::clamp<std::size_t>(nodes_.size() / kCellNodes, 1, kLeadersMax);
  std::vector<std::pair<std::uint64_t, Node>> drawn;
  drawn.reserve(nodes_.size());
  for (const Node node : nodes_) drawn.emplace_back(mix(node + kDraw), node);
  std::nth_element(drawn.begin(), drawn.begin() + static_cast<std::ptrdiff_t>(wanted - 1), drawn.end());
  leaders_.resize(wanted);
  for (std::size_t i = 0; i < wanted; ++i) leaders_[i] = drawn[i].second;
  // Equal ones would be all that is near to many nodes, and all but one of them lead an empty cell.
  const auto compare = [this](Node a, Node b) {
    return std::memcmp(codes_.row(a), codes_.row(b), codes_.shape.row_bytes());
  };
  std::sort(leaders_.begin(), leaders_.end(), [&](Node a, Node b) {
    const int order = compare(a, b);
    return order != 0 ? order < 0 : a < b;
  });
  leaders_.erase(std::unique(leaders_.begin(), leaders_.end(), [&](Node a, Node b) { return compare(a, b) == 0; }),
                 leaders_.end());
  std::sort(leaders_.begin(), leaders_.end());
}

void Cells::assign(const Vectors& vectors, unsigned threads, const std::function<void()>& pause) {
  CodePanels leaders(codes_, (leaders_.size() + kCodePanel - 1) / kCodePanel);
  for (std::size_t i = 0; i < leaders_.size(); ++i) leaders.set(i, leaders_[i]);
  const unsigned workers = ThreadPool::wanted(threads);
  std::vector<Desk> desks(workers);
  ThreadPool::shared().parallel_for(
      (nodes_.size() + kBlock - 1) / kBlock, workers, [&](std::size_t block, unsigned worker) {
        if (worker == 0) pause();
        assign_block(leaders, vectors, block * kBlock, std::min(nodes_.size(), (block + 1) * kBlock), desks[worker]);
      });
}

void Cells::assign_block(const CodePanels& leaders, const Vectors& vectors, std::size_t first, std::size_t end,
                         Desk& desk) {
  auto& [queries, nearest] = desk;
  for (std::size_t i = first; i < end; ++i) {
    const Node node = nodes_[i];
    nearest[i - first].reset(width_);
    queries[i - first].prepare(codes_, vectors.type, vectors.row(node), vectors.inverse_norm(node));
  }
  for (std::size_t panel = 0; panel * kCodePanel < leaders_.size(); ++panel) {
    leaders.compare(panel, {queries.data(), end - first},
                    [&, &nearest = nearest](std::size_t q, const float* distances) {
                      const float bound =
                          nearest[q].full() ? (nearest[q].end() - 1)->distance : std::numeric_limits<float>::infinity();
                      for_each_within(distances, bound, [&](std::size_t r) {
                        const auto leader = static_cast<std::uint32_t>(panel * kCodePanel + r);
                        if (leader < leaders_.size()) nearest[q].insert({distances[r], leader});
                      });
                    });
  }
  for (std::size_t i = first; i < end; ++i) {
    for (std::size_t j = 0; j < width_; ++j) nearest_[i * width_ + j] = nearest[i - first].begin()[j].node;
  }
}

void Cells::fill(unsigned threads) {
  starts_.assign(leaders_.size() + 1, 0);
  for (std::size_t i = 0; i < nodes_.size(); ++i) ++starts_[nearest_[i * width_] + 1];
  for (std::size_t cell = 0; cell < leaders_.size(); ++cell) starts_[cell + 1] += starts_[cell];
  members_.resize(nodes_.size());
  place_.resize(nodes_.size());
  std::vector<std::size_t> next(starts_.begin(), starts_.end() - 1);
  for (std::size_t i = 0; i < nodes_.size(); ++i) {
    const std::size_t at = next[nearest_[i * width_]]++;
    members_[at] = nodes_[i];
    place_[at] = static_cast<std::uint32_t>(i);
  }
  first_panels_.assign(1, 0);
  for (std::size_t cell = 0; cell < size(); ++cell) first_panels_.push_back(first_panels_.back() + panels_of(cell));
  panels_ = CodePanels(codes_, first_panels_.back());
  ThreadPool::shared().parallel_for(size(), threads, [&](std::size_t cell, unsigned) {
    const std::span<const Node> nodes = members(cell);
    for (std::size_t i = 0; i < nodes.size(); ++i) panels_.set(first_panels_[cell] * kCodePanel + i, nodes[i]);
  });
}

void Cells::near(std::size_t cell, std::span<const std::uint32_t> some, std::size_t count,
                 std::vector<std::size_t>& out) const {
  struct Vote {
    std::uint32_t weight;
    std::uint32_t cell;
  };
  thread_local std::vector<std::uint32_t> weights;
  thread_local std::vector<Vote> votes;
  weights.assign(size(), 0);
  votes.clear();
  for (const std::uint32_t member : some) {
    const std::uint32_t* nearest = &nearest_[place_[starts_[cell] + member] * width_];
    for (std::size_t i = 0; i < width_; ++i) {
      if (weights[nearest[i]] == 0) votes.push_back({0, nearest[i]});
      weights[nearest[i]] += static_cast<std::uint32_t>(width_ - i);
    }
  }
  for (Vote& vote : votes) vote.weight = weights[vote.cell];
  std::sort(votes.begin(), votes.end(),
            [](const Vote& a, const Vote& b) { return a.weight != b.weight ? a.weight > b.weight : a.cell < b.cell; });
  out.clear();
  std::size_t found = 0;
  const auto take = [&](std::size_t from, std::size_t end) {
    for (std::size_t panel = from; panel < end && found < count; ++panel, found += kCodePanel) out.push_back(panel);
  };
  const std::size_t middle = first_panels_[cell] + some[0] / kCodePanel;
  take(middle, first_panels_[cell + 1]);
  take(first_panels_[cell], middle);
  for (const Vote& vote : votes) {
    if (vote.cell != cell) take(first_panels_[vote.cell], first_panels_[vote.cell + 1]);
  }
}

}  // namespace akidb::hnsw
