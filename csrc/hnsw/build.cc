#include <atomic>
#include <chrono>

#include "common/thread_pool.h"
#include "hnsw/insert.h"

namespace akidb::hnsw {

void build(Graph& graph, const Vectors& vectors, Node first, std::size_t count, unsigned threads,
           const Progress& progress) {
  using Clock = std::chrono::steady_clock;
  constexpr auto kProgressPeriod = std::chrono::milliseconds(50);
  std::atomic<std::size_t> done{0};
  Clock::time_point next_report = Clock::now() + kProgressPeriod;
  ThreadPool::shared().parallel_for(count, threads, [&](std::size_t i, unsigned worker) {
    insert(graph, vectors, first + static_cast<Node>(i), Scratch::of_this_thread());
    const std::size_t now_done = done.fetch_add(1, std::memory_order_relaxed) + 1;
    if (worker != 0 || !progress || Clock::now() < next_report) return;  // worker 0 is the caller's thread
    next_report = Clock::now() + kProgressPeriod;
    if (!progress(now_done, count))
      throw Error(ErrorKind::kCancelled, "stopped by the caller while building the graph");
  });
  if (progress && count > 0) progress(count, count);
}

}  // namespace akidb::hnsw
