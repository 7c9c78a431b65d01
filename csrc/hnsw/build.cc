#include <algorithm>
#include <chrono>
#include <numeric>
#include <optional>
#include <span>
#include <vector>

#include "common/aligned_buffer.h"
#include "hnsw/code_probe.h"
#include "hnsw/insert.h"
#include "hnsw/insert_cells.h"

namespace akidb::hnsw {

namespace {

float nth_smallest(std::vector<float> values, std::size_t n) {
  const auto at = values.begin() + static_cast<std::ptrdiff_t>(n - 1);
  std::nth_element(values.begin(), at, values.end());
  return *at;
}

// Codes of nodes [0, count) for the length of a build.
class BuildCodes {
 public:
  BuildCodes(const Vectors& vectors, std::size_t count, unsigned threads)
      : shape_{vectors.dim, quantization::CodeBits::kEight, vectors.metric},
        centre_(vectors.dim),
        factors_(count),
        rows_(count * shape_.row_bytes()) {
    const quantization::Source source{vectors.type, vectors.data, vectors.stride_bytes};
    quantization::find_centre(shape_, source, count, centre_.data());
    quantization::encode(shape_, centre_.data(), source, count, threads, factors_.data(), rows_.data());
  }
  quantization::Codes codes() const { return {shape_, centre_.data(), factors_.data(), rows_.data()}; }

  // Whether codes tell near from far on these vectors: of 32 nodes, the 10 nearest among 1,000 others must nearly all
  // be among the 40 nearest by codes. They are not where one dimension is far wider than those that matter.
  bool serve(const Vectors& vectors, std::size_t count) const {
    constexpr std::size_t kProbes = 32;
    constexpr std::size_t kOthers = 1000;
    constexpr std::size_t kNearest = 10;
    constexpr std::size_t kNearByCodes = 40;
    std::vector<Node> others(kOthers);
    for (std::size_t i = 0; i < kOthers; ++i) others[i] = static_cast<Node>(i * count / kOthers);
    std::vector<float> exact(kOthers);
    std::vector<float> coded(kOthers);
    quantization::CodedQuery query;
    const quantization::Codes codes = this->codes();
    std::size_t wanted = 0;
    std::size_t found = 0;
    for (std::size_t i = 0; i < kProbes; ++i) {
      const auto node = static_cast<Node>((2 * i + 1) * count / (2 * kProbes));
      query.prepare(codes, vectors.type, vectors.row(node), vectors.inverse_norm(node));
      Probe(vectors, node)(others.data(), kOthers, exact.data());
      const CodeProbe probe(codes, query);
      for (std::size_t j = 0; j < kOthers; ++j) coded[j] = probe(others[j]);
      const float near = nth_smallest(exact, kNearest);
      const float near_by_codes = nth_smallest(coded, kNearByCodes);
      for (std::size_t j = 0; j < kOthers; ++j) {
        if (exact[j] >= near) continue;  // of many at the same distance any will do
        ++wanted;
        if (coded[j] <= near_by_codes) ++found;
      }
    }
    return found * 100 >= wanted * 95;
  }

 private:
  quantization::CodeShape shape_;
  std::vector<float> centre_;
  AlignedBuffer<quantization::Factors> factors_;
  AlignedBuffer<std::uint8_t> rows_;
};

// Measured with m 16 and ef_construction 200 on two threads, CPU seconds of walks with and without codes at equal
// recall: 100,000 x 128 14.0 and 17.6; 39,000 x 384 8.5 and 13.3; 100,000 x 768 33.8 and 42.7. Codes of 4 bits gained
// little more, and fail on more data. Encoding nodes that are there already pays only for many new ones. Elements of a
// byte and less are no longer than codes.
bool codes_pay(const Vectors& vectors, std::size_t before, std::size_t count) {
  constexpr std::size_t kDimMin = 48;
  constexpr std::size_t kCountMin = 1000;
  return is_float(vectors.type) && vectors.dim >= kDimMin && count >= kCountMin && count >= before / 4;
}

// Nodes inserted at once. More would keep more threads busy, but each is compared with all others of its batch.
constexpr std::size_t kBatch = 512;

// Where all but the upper levels come by cells, these few are what gives the graph its longest links: the first must
// not come so many at a time that they are each other's nearest alone.
constexpr std::size_t kFewest = 32;

// Below, walking is as fast, and what is chosen among so few of the very nearest leads nowhere else.
constexpr unsigned kEfOfCells = 100;

// Tells the caller how far the work is, not too often.
class Reporter {
 public:
  Reporter(const Progress& progress, std::size_t total) : progress_(progress), total_(total) {}

  void now(std::size_t done) const {
    if (progress_ && !progress_(done, total_))
      throw Error(ErrorKind::kCancelled, "stopped by the caller while building the graph");
  }
  void at_times(std::size_t done) {
    if (!progress_ || Clock::now() < next_) return;
    next_ = Clock::now() + kPeriod;
    now(done);
  }

 private:
  using Clock = std::chrono::steady_clock;
  static constexpr auto kPeriod = std::chrono::milliseconds(50);

  const Progress& progress_;
  const std::size_t total_;
  Clock::time_point next_ = Clock::now() + kPeriod;
};

// Puts those of the upper levels first, and tells how many have to walk before the rest comes by cells: these, or a few
// where there is nothing yet to enter the graph by.
std::size_t put_upper_first(const Graph& graph, std::vector<Node>& nodes) {
  const auto level_0 =
      std::stable_partition(nodes.begin(), nodes.end(), [&](Node node) { return graph.level(node) > 0; });
  const auto upper = static_cast<std::size_t>(level_0 - nodes.begin());
  return upper == 0 && graph.entry().node == kNoNode ? std::min(kFewest, nodes.size()) : upper;
}

}  // namespace

void insert_all(Graph& graph, const Vectors& vectors, std::size_t count, std::span<const Node> joining,
                const Hints& hints, unsigned threads, const Progress& progress, const Removals& removals) {
  const std::size_t before = count - joining.size();
  std::optional<BuildCodes> made;
  if (codes_pay(vectors, before, joining.size())) {
    made.emplace(vectors, count, threads);
    if (!made->serve(vectors, count)) made.reset();
  }
  const quantization::Codes codes = made ? made->codes() : quantization::Codes{};
  // Fewer would compare with many that do not join; and where half of the points were updated ten times by cells,
  // recall@10 was .986 at the end, .998 for a fresh build.
  const bool by_cells = made && !hints && joining.size() >= before && graph.params().ef_construction >= kEfOfCells;
  std::vector<Node> ordered(joining.begin(), joining.end());
  const std::size_t walking = by_cells ? put_upper_first(graph, ordered) : ordered.size();
  const std::span<const Node> nodes(ordered);
  Reporter report(progress, joining.size());
  Batch batch(graph, vectors, removals, made ? &codes : nullptr, threads);
  for (std::size_t first = 0, end = 0; first < walking; first = end) {
    end = std::min(first + (by_cells ? std::clamp((before + first) / 4, kFewest, kBatch) : kBatch), walking);
    Batch::HintOf hint_of;
    if (hints) hint_of = [&](std::size_t i) { return hints(first + i, first, end); };
    batch.insert(nodes.subspan(first, end - first), hint_of, [&](std::size_t done) { report.at_times(first + done); });
  }
  if (by_cells) {
    insert_by_cells(graph, vectors, removals, codes, count, nodes.subspan(walking), threads,
                    [&](std::size_t done) { report.at_times(walking + done); });
  }
  if (!joining.empty()) report.now(joining.size());
}

void build(Graph& graph, const Vectors& vectors, Node first, std::size_t count, unsigned threads,
           const Progress& progress, const Removals& removals) {
  std::vector<Node> joining(count);
  std::iota(joining.begin(), joining.end(), first);
  insert_all(graph, vectors, first + count, joining, {}, threads, progress, removals);
}

}  // namespace akidb::hnsw
