#include "flat/flat.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>
#include <vector>

#include "common/prefetch.h"
#include "common/thread_pool.h"
#include "flat/top_k.h"

namespace akidb::flat {

namespace {

// A block is read from memory once and then from L2 for every query
// of a tile; half of a 512 KiB L2 (the smallest of our machines).
constexpr std::size_t kBlockBytes = std::size_t{256} << 10;
constexpr std::size_t kBlockRowsMax = 4096;
// Enough queries per pass over the rows that arithmetic, not memory, is the limit; few enough that workers x queries
// heaps stay small.
constexpr std::size_t kTileQueries = 64;
constexpr std::size_t kPrefetchBytes = 512;

std::size_t rows_per_block(std::size_t dim) {
  return std::clamp<std::size_t>(kBlockBytes / (std::max<std::size_t>(dim, 1) * sizeof(float)), 16, kBlockRowsMax);
}

// A worker's scratch: the rows of the block at hand that may be searched, and what was computed about them.
struct Block {
  std::vector<std::int64_t> rows;
  std::vector<float> inverse_norms;  // in the order of `rows`, for kCosine
  std::vector<float> distances;
};

class Search {
 public:
  Search(const Rows& rows, const Request& request)
      : rows_(rows),
        request_(request),
        kernels_(kernels()),
        batch4_(rows.metric == Metric::kL2 ? kernels_.l2_batch4 : kernels_.dot_batch4),
        single_(rows.metric == Metric::kL2 ? kernels_.l2 : kernels_.dot),
        stride_(rows.stride == 0 ? rows.dim : rows.stride),
        block_rows_(rows_per_block(rows.dim)),
        block_count_((rows.count + block_rows_ - 1) / block_rows_),
        k_(std::min(request.k, rows.count)) {
    const unsigned threads =
        request.threads == 0 ? hardware_threads() : std::min(request.threads, ThreadPool::kThreadsMax);
    workers_ = static_cast<unsigned>(std::clamp<std::size_t>(block_count_, 1, threads));
    blocks_.resize(workers_);
    tops_.resize(workers_ * std::min(kTileQueries, request.query_count), TopK(k_));
  }

  void run(std::int64_t* out_rows, float* out_distances) {
    for (std::size_t first = 0; first < request_.query_count; first += kTileQueries) {
      const std::size_t tile = std::min(kTileQueries, request_.query_count - first);
      for (TopK& top : tops_) top.clear();
      measure_queries(first, tile);
      ThreadPool::shared().parallel_for(block_count_, workers_, [&](std::size_t block, unsigned worker) {
        request_.stop.check();
        scan(block, first, tile, blocks_[worker], &tops_[worker * tile]);
      });
      for (std::size_t q = 0; q < tile; ++q) {
        merge(q, tile, out_rows + (first + q) * request_.k, out_distances + (first + q) * request_.k);
      }
    }
  }

 private:
  const float* row(std::int64_t index) const { return rows_.vectors + static_cast<std::size_t>(index) * stride_; }

  void measure_queries(std::size_t first, std::size_t tile) {
    if (rows_.metric != Metric::kCosine) return;
    for (std::size_t q = 0; q < tile; ++q) {
      query_inverse_norms_[q] = inverse_norm(request_.queries + (first + q) * rows_.dim, rows_.dim);
    }
  }

  void scan(std::size_t index, std::size_t first, std::size_t tile, Block& block, TopK* tops) const {
    collect(index, block);
    for (std::size_t q = 0; q < tile; ++q) {
      measure(request_.queries + (first + q) * rows_.dim, query_inverse_norms_[q], block);
      for (std::size_t i = 0; i < block.rows.size(); ++i) tops[q].offer(block.distances[i], block.rows[i]);
    }
  }

  // The allowed rows of a block. A mask is read eight rows at a time, since most of a selective one is zero.
  void collect(std::size_t index, Block& block) const {
    const std::size_t begin = index * block_rows_;
    const std::size_t end = std::min(begin + block_rows_, rows_.count);
    block.rows.clear();
    for (std::size_t i = begin; i < end;) {
      if (request_.allowed != nullptr) {
        std::uint64_t eight = 1;
        if (i + sizeof(eight) <= end) std::memcpy(&eight, request_.allowed + i, sizeof(eight));
        if (eight == 0) {
          i += sizeof(eight);
          continue;
        }
        if (request_.allowed[i] == 0) {
          ++i;
          continue;
        }
      }
      block.rows.push_back(static_cast<std::int64_t>(i++));
    }
    block.distances.resize(block.rows.size());
    if (rows_.metric != Metric::kCosine) return;
    block.inverse_norms.resize(block.rows.size());
    for (std::size_t i = 0; i < block.rows.size(); ++i) {
      const std::int64_t r = block.rows[i];
      block.inverse_norms[i] =
          rows_.inverse_norms != nullptr ? rows_.inverse_norms[r] : inverse_norm(row(r), rows_.dim);
    }
  }

  void measure(const float* query, float query_inverse_norm, Block& block) const {
    const std::size_t count = block.rows.size();
    float* const out = block.distances.data();
    std::size_t i = 0;
    for (; i + 4 <= count; i += 4) {
      const std::int64_t* const r = block.rows.data() + i;
      const float* const four[4] = {row(r[0]), row(r[1]), row(r[2]), row(r[3])};
      // Under a mask the next rows lie anywhere, which no hardware prefetcher foresees.
      if (request_.allowed != nullptr && i + 8 <= count) {
        for (int ahead = 4; ahead < 8; ++ahead)
          prefetch_range(row(r[ahead]), std::min(kPrefetchBytes, rows_.dim * sizeof(float)));
      }
      batch4_(query, four, rows_.dim, out + i);
    }
    for (; i < count; ++i) out[i] = single_(query, row(block.rows[i]), rows_.dim);
    if (rows_.metric == Metric::kCosine) {
      for (i = 0; i < count; ++i) out[i] = cosine_distance(out[i], query_inverse_norm, block.inverse_norms[i]);
    } else if (rows_.metric == Metric::kInnerProduct) {
      for (i = 0; i < count; ++i) out[i] = -out[i];
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
    std::partial_sort(merged_.begin(), merged_.begin() + static_cast<std::ptrdiff_t>(kept), merged_.end());
    for (std::size_t i = 0; i < kept; ++i) {
      out_rows[i] = merged_[i].row;
      out_distances[i] = merged_[i].distance;
    }
    std::fill(out_rows + kept, out_rows + request_.k, -1);
    std::fill(out_distances + kept, out_distances + request_.k, std::numeric_limits<float>::infinity());
  }

  const Rows& rows_;
  const Request& request_;
  const Kernels& kernels_;
  void (*batch4_)(const float*, const float* const[4], std::size_t, float[4]);
  float (*single_)(const float*, const float*, std::size_t);
  std::size_t stride_;
  std::size_t block_rows_;
  std::size_t block_count_;
  std::size_t k_;
  unsigned workers_ = 1;
  std::array<float, kTileQueries> query_inverse_norms_{};
  std::vector<Block> blocks_;  // one per worker
  std::vector<TopK> tops_;     // worker x query of the tile
  std::vector<Candidate> merged_;
};

}  // namespace

void search(const Rows& rows, const Request& request, std::int64_t* out_rows, float* out_distances) {
  Search(rows, request).run(out_rows, out_distances);
}

void inverse_norms(const float* vectors, std::size_t count, std::size_t dim, unsigned threads, float* out) {
  const std::size_t step = rows_per_block(dim);
  ThreadPool::shared().parallel_for((count + step - 1) / step, threads, [&](std::size_t block, unsigned) {
    const std::size_t end = std::min((block + 1) * step, count);
    for (std::size_t i = block * step; i < end; ++i) out[i] = inverse_norm(vectors + i * dim, dim);
  });
}

}  // namespace akidb::flat
