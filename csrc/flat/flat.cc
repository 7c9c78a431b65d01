#include "flat/flat.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <numeric>
#include <optional>
#include <vector>

#include "common/aligned_buffer.h"
#include "common/prefetch.h"
#include "common/thread_pool.h"
#include "flat/screen.h"
#include "flat/top_k.h"

namespace akidb::flat {

namespace {

// A block is read from memory once and then from L2 for every query of a tile; half of a 512 KiB L2 (the smallest of
// our machines).
constexpr std::size_t kBlockBytes = std::size_t{256} << 10;
constexpr std::size_t kBlockRowsMax = 1024;  // so that the distances of a block to a tile's queries stay in L2 as well
// Rows that are so short are compared four at a time also where they are read in order: calls and sums across registers
// cost more than they do.
constexpr std::size_t kShortRowBytes = 256;
// Enough queries per pass over the rows that arithmetic, not memory, is the limit; few enough that they stay in L2.
constexpr std::size_t kTileQueries = 64;

// A screen reads the rows for more queries at once, since the queries pass by as well, a panel at a time.
constexpr std::size_t kScreenQueriesMin = 32;  // a panel is filled up, and rows are copied for it
constexpr std::size_t kScreenQueriesMax = 256;
constexpr std::size_t kScreenPanelBytes = std::size_t{1} << 20;
constexpr std::size_t kScreenRowsMin = 16;
constexpr std::size_t kScreenRowsMax = 256;
constexpr std::size_t kScreenRetry = 8;  // blocks, where most rows stay in doubt: equal ones, or all far off and close
constexpr std::size_t kScreenRowsPerNeighbor = 64;  // where one row in fewer is an answer, too many are left to compare

std::size_t rows_per_block(std::size_t bytes) {
  return std::clamp<std::size_t>(kBlockBytes / std::max<std::size_t>(bytes, 1), 16, kBlockRowsMax) / kTileSide *
         kTileSide;
}

bool screening_pays(const Rows& rows, const Request& request) {
  return rows.type != ElementType::kBinary && request.k > 0 && request.query_count >= kScreenQueriesMin &&
         rows.count / kScreenRowsPerNeighbor >= request.k;
}

// How many queries one pass over the rows is for: as many in each, as far as that goes.
std::size_t queries_per_pass(const Rows& rows, const Request& request) {
  if (!screening_pays(rows, request)) return std::min(kTileQueries, request.query_count);
  const std::size_t most = std::clamp(kScreenPanelBytes / (rows.dim * sizeof(float)), kTileQueries, kScreenQueriesMax);
  const std::size_t passes = (request.query_count + most - 1) / most;
  return (request.query_count + passes - 1) / passes;
}

// A worker's scratch: the rows of the block at hand that may be searched, and what was computed about them.
struct Block {
  std::vector<std::int64_t> rows;
  std::vector<float> inverse_norms;  // in the order of `rows`, for kCosine
  std::vector<float> distances;      // query of the tile x row
  Screen::Block screened;
  bool screening_pays = true;  // of the last one screened
};

class Search {
 public:
  Search(const Rows& rows, const Request& request)
      : rows_(rows),
        request_(request),
        kernel_(kernels().of(rows.type, rows.metric)),
        bytes_(vector_bytes(rows.type, rows.dim)),
        stride_(rows.stride_bytes == 0 ? bytes_ : rows.stride_bytes),
        pass_queries_(queries_per_pass(rows, request)),
        block_rows_(screening_pays(rows, request) ? std::min(rows_per_block(rows.dim * sizeof(float)), kScreenRowsMax)
                                                  : rows_per_block(bytes_)),
        block_count_((rows.count + block_rows_ - 1) / block_rows_),
        k_(std::min(request.k, rows.count)),
        query_stride_((bytes_ + kCacheLineBytes - 1) / kCacheLineBytes * kCacheLineBytes),
        queries_(pass_queries_ * query_stride_),
        query_inverse_norms_(pass_queries_) {
    const unsigned threads = ThreadPool::wanted(request.threads);
    workers_ = static_cast<unsigned>(std::clamp<std::size_t>(block_count_, 1, threads));
    blocks_.resize(workers_);
    tops_.resize(workers_ * pass_queries_, TopK(k_));
    if (!screening_pays(rows, request)) return;
    screen_.emplace(kernels(), Screen::Shape{rows.dim, rows.metric, rows.type}, centre(), pass_queries_, block_rows_);
    for (Block& block : blocks_) block.screened = screen_->block();
  }

  void run(std::int64_t* out_rows, float* out_distances) {
    for (std::size_t first = 0; first < request_.query_count; first += pass_queries_) {
      const std::size_t tile = std::min(pass_queries_, request_.query_count - first);
      for (TopK& top : tops_) top.clear();
      take_queries(first, tile);
      ThreadPool::shared().parallel_for(block_count_, workers_, [&](std::size_t block, unsigned worker) {
        request_.stop.check();
        scan(block, tile, blocks_[worker], &tops_[worker * tile]);
      });
      for (std::size_t q = 0; q < tile; ++q) {
        request_.stop.check();  // of a large k, sorting takes longer than the scan
        merge(q, tile, out_rows + (first + q) * request_.k, out_distances + (first + q) * request_.k);
      }
    }
  }

 private:
  const std::uint8_t* row(std::int64_t index) const {
    return static_cast<const std::uint8_t*>(rows_.vectors) + static_cast<std::size_t>(index) * stride_;
  }
  const std::uint8_t* query(std::size_t q) const { return queries_.data() + q * query_stride_; }

  // The mean of a few rows: what is far from the origin and near one another is told apart from there.
  std::vector<float> centre() const {
    if (rows_.metric != Metric::kL2) return {};
    constexpr std::size_t kSample = 64;
    std::vector<float> sum(rows_.dim, 0.0F);
    std::vector<float> values(rows_.dim);
    for (std::size_t i = 0; i < kSample; ++i) {
      decode(rows_.type, row(static_cast<std::int64_t>(i * rows_.count / kSample)), rows_.dim, values.data());
      for (std::size_t d = 0; d < rows_.dim; ++d) sum[d] += values[d] / static_cast<float>(kSample);
    }
    return sum;
  }

  // Copies the queries of a tile to where each begins on a cache line: they are loaded for every few rows.
  void take_queries(std::size_t first, std::size_t tile) {
    for (std::size_t q = 0; q < tile; ++q) {
      const auto* from = static_cast<const std::uint8_t*>(request_.queries) + (first + q) * bytes_;
      std::copy_n(from, bytes_, queries_.data() + q * query_stride_);
      if (rows_.metric == Metric::kCosine) query_inverse_norms_[q] = inverse_norm(rows_.type, query(q), rows_.dim);
    }
    if (!screen_) return;
    screen_->set_queries(tile);
    for (std::size_t q = 0; q < tile; ++q) screen_->set_query(q, query(q), query_inverse_norms_[q]);
    for (Block& block : blocks_) screen_->begin(block.screened);
  }

  void scan(std::size_t index, std::size_t tile, Block& block, TopK* tops) const {
    collect(index, block);
    const std::size_t count = block.rows.size();
    const bool is_tried = block.screening_pays || index % kScreenRetry == 0;
    if (screen_ && is_tried && count >= kScreenRowsMin) return scan_screened(*screen_, index, tile, block, tops);
    block.distances.resize(tile * count);
    measure(tile, block);
    for (std::size_t q = 0; q < tile; ++q) {
      float* distances = block.distances.data() + q * count;
      finish(query_inverse_norms_[q], block, distances);
      tops[q].offer(distances, block.rows.data(), count);
    }
  }

  // The rows of the block that may be near are compared, the most promising first, since each that is kept lets fewer
  // others in.
  void scan_screened(const Screen& screen, std::size_t index, std::size_t tile, Block& block, TopK* tops) const {
    Screen::Block& screened = block.screened;
    const std::size_t count = block.rows.size();
    for (std::size_t i = 0; i < count; ++i) screen.set_row(i, row(block.rows[i]), norm_of(block, i), screened);
    const std::size_t next = request_.allowed == nullptr ? (index + workers_) * block_rows_ : rows_.count;
    const std::size_t next_bytes = (std::min(next + block_rows_, rows_.count) - std::min(next, rows_.count)) * stride_;
    screen.find_near(count, screened, [&](std::size_t step, std::size_t steps) {
      const std::size_t from = next_bytes * step / steps;
      if (next_bytes != 0)
        prefetch_range_to_l2(row(static_cast<std::int64_t>(next)) + from, next_bytes * (step + 1) / steps - from);
    });
    std::size_t compared = 0;
    for (std::size_t q = 0; q < tile; ++q) {
      std::vector<Screen::Near>& near = screened.near[q];
      if (near.empty()) continue;
      std::sort(near.begin(), near.end(), [](const auto& a, const auto& b) { return a.closeness > b.closeness; });
      for (const auto& [closeness, place] : near) {
        if (closeness < screened.floors[q]) break;
        ++compared;
        tops[q].offer(distance(q, block, place), block.rows[place]);
        screened.floors[q] = screen.floor(q, tops[q].limit());
      }
      near.clear();
    }
    block.screening_pays = 4 * compared < tile * count;
  }

  // The allowed rows of a block. A mask is read eight rows at a time, since most of a selective one is zero.
  void collect(std::size_t index, Block& block) const {
    const std::size_t begin = index * block_rows_;
    const std::size_t end = std::min(begin + block_rows_, rows_.count);
    if (request_.allowed == nullptr) {
      block.rows.resize(end - begin);
      std::iota(block.rows.begin(), block.rows.end(), static_cast<std::int64_t>(begin));
    } else {
      collect_allowed(begin, end, block);
    }
    if (rows_.metric != Metric::kCosine) return;
    block.inverse_norms.resize(block.rows.size());
    for (std::size_t i = 0; i < block.rows.size(); ++i) {
      const std::int64_t r = block.rows[i];
      block.inverse_norms[i] =
          rows_.inverse_norms != nullptr ? rows_.inverse_norms[r] : inverse_norm(rows_.type, row(r), rows_.dim);
    }
  }

  void collect_allowed(std::size_t begin, std::size_t end, Block& block) const {
    block.rows.clear();
    for (std::size_t i = begin; i < end;) {
      std::uint64_t eight = 1;
      if (i + sizeof(eight) <= end) std::memcpy(&eight, request_.allowed + i, sizeof(eight));
      if (eight == 0) {
        i += sizeof(eight);
        continue;
      }
      if (request_.allowed[i] != 0) block.rows.push_back(static_cast<std::int64_t>(i));
      ++i;
    }
  }

  // What the kernel makes of every query of the tile and every row of the block.
  void measure(std::size_t tile, Block& block) const {
    const std::size_t count = block.rows.size();
    float* const out = block.distances.data();
    const std::int64_t* const rows = block.rows.data();
    std::size_t i = 0;
    // One query reads rows one after the other, which hardware prefetchers follow: measured at 1.2 to 3 times the speed
    // of four at a time. Under a mask the next rows lie anywhere, and four at a time miss the caches together.
    const bool is_stream = tile == 1 && request_.allowed == nullptr;
    const bool by_fours = !is_stream || bytes_ <= kShortRowBytes;
    for (; by_fours && i + kTileSide <= count; i += kTileSide) {
      const void* const four[] = {row(rows[i]), row(rows[i + 1]), row(rows[i + 2]), row(rows[i + 3])};
      const std::int64_t* const next = !is_stream && i + 2 * kTileSide <= count ? rows + i + kTileSide : nullptr;
      std::size_t q = 0;
      for (; q + kTileSide <= tile; q += kTileSide) {
        if (next != nullptr) prefetch_part(next, q, tile);
        const void* const queries[] = {query(q), query(q + 1), query(q + 2), query(q + 3)};
        float sums[kTileSide * kTileSide];
        kernel_.tile(queries, four, rows_.dim, sums);
        for (std::size_t j = 0; j < kTileSide; ++j)
          std::copy_n(sums + j * kTileSide, kTileSide, out + (q + j) * count + i);
      }
      if (next != nullptr && q < tile) prefetch_part(next, q, tile);
      for (; q < tile; ++q) kernel_.batch4(query(q), four, rows_.dim, out + q * count + i);
    }
    for (; i < count; ++i) {
      for (std::size_t q = 0; q < tile; ++q) out[q * count + i] = kernel_.single(query(q), row(rows[i]), rows_.dim);
    }
  }

  // Asks for the part of the next four rows that the queries from q on stand for in the tile, so that each tile of sums
  // hides a share of the misses.
  void prefetch_part(const std::int64_t* next, std::size_t q, std::size_t tile) const {
    const std::size_t end = std::min(q + kTileSide, tile);
    const std::size_t from = q * bytes_ / tile;
    const std::size_t bytes = end * bytes_ / tile - from;
    for (std::size_t r = 0; r < kTileSide; ++r) prefetch_range(row(next[r]) + from, bytes);
  }

  float norm_of(const Block& block, std::size_t i) const {
    return rows_.metric == Metric::kCosine ? block.inverse_norms[i] : 0.0F;
  }

  float distance(std::size_t q, const Block& block, std::size_t i) const {
    const float sum = kernel_.single(query(q), row(block.rows[i]), rows_.dim);
    switch (rows_.metric) {
      case Metric::kInnerProduct:
        return -sum;
      case Metric::kCosine:
        return cosine_distance(sum, query_inverse_norms_[q], block.inverse_norms[i]);
      case Metric::kL2:
        break;
    }
    return sum;
  }

  // Sums become distances.
  void finish(float query_inverse_norm, const Block& block, float* distances) const {
    const std::size_t count = block.rows.size();
    if (rows_.metric == Metric::kCosine) {
      for (std::size_t i = 0; i < count; ++i)
        distances[i] = cosine_distance(distances[i], query_inverse_norm, block.inverse_norms[i]);
    } else if (rows_.metric == Metric::kInnerProduct) {
      for (std::size_t i = 0; i < count; ++i) distances[i] = -distances[i];
    }
  }

  // One query's answer out of every worker's candidates.
  void merge(std::size_t q, std::size_t tile, std::int64_t* out_rows, float* out_distances) {
    merged_.clear();
    for (unsigned worker = 0; worker < workers_; ++worker) {
      const std::vector<Candidate>& found = tops_[worker * tile + q].unordered();
      merged_.insert(merged_.end(), found.begin(), found.end());
    }
    const std::size_t kept = std::min(k_, merged_.size());
    const auto end = merged_.begin() + static_cast<std::ptrdiff_t>(kept);
    std::nth_element(merged_.begin(), end, merged_.end());
    std::sort(merged_.begin(), end);
    for (std::size_t i = 0; i < kept; ++i) {
      out_rows[i] = merged_[i].row;
      out_distances[i] = merged_[i].distance;
    }
    std::fill(out_rows + kept, out_rows + request_.k, -1);
    std::fill(out_distances + kept, out_distances + request_.k, std::numeric_limits<float>::infinity());
  }

  const Rows& rows_;
  const Request& request_;
  const Kernel& kernel_;
  std::size_t bytes_;
  std::size_t stride_;
  std::size_t pass_queries_;
  std::size_t block_rows_;
  std::size_t block_count_;
  std::size_t k_;
  std::size_t query_stride_;
  AlignedBuffer<std::uint8_t> queries_;  // of the pass
  std::vector<float> query_inverse_norms_;
  std::optional<Screen> screen_;  // where it pays
  unsigned workers_ = 1;
  std::vector<Block> blocks_;  // one per worker
  std::vector<TopK> tops_;     // worker x query of the tile
  std::vector<Candidate> merged_;
};

}  // namespace

void search(const Rows& rows, const Request& request, std::int64_t* out_rows, float* out_distances) {
  Search(rows, request).run(out_rows, out_distances);
}

void inverse_norms(ElementType type, const void* vectors, std::size_t count, std::size_t dim, unsigned threads,
                   float* out) {
  const std::size_t bytes = vector_bytes(type, dim);
  const std::size_t step = rows_per_block(bytes);
  const auto* const rows = static_cast<const std::uint8_t*>(vectors);
  ThreadPool::shared().parallel_for((count + step - 1) / step, threads, [&](std::size_t block, unsigned) {
    const std::size_t end = std::min((block + 1) * step, count);
    for (std::size_t i = block * step; i < end; ++i) out[i] = inverse_norm(type, rows + i * bytes, dim);
  });
}

}  // namespace akidb::flat
