#include "common/thread_pool.h"

#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <deque>
#include <exception>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

namespace akidb {

namespace {

// One call of parallel_for. Helpers hold it by shared_ptr: one
// that arrives after the call has returned finds no index left.
class Job {
 public:
  Job(std::size_t count, const ThreadPool::Body& body) : count_(count), body_(body) {}

  // The caller's side: works as worker 0 until no index is left, then waits for the helpers that still work on theirs.
  void run() {
    work(0);
    std::unique_lock lock(mutex_);
    idle_.wait(lock, [this] { return helpers_working_ == 0; });
    // Taken out of the job, which a late helper may be the last to drop: the exception is then the caller's alone.
    if (const std::exception_ptr error = std::move(error_)) std::rethrow_exception(error);
  }

  // A pool thread's side.
  void help() {
    unsigned worker = 0;
    {
      const std::lock_guard lock(mutex_);
      ++helpers_working_;
      worker = ++helpers_begun_;
    }
    work(worker);
    const std::lock_guard lock(mutex_);
    // Notified under the lock: once it is released the caller may return, and `body_` dangles.
    if (--helpers_working_ == 0) idle_.notify_all();
  }

 private:
  void work(unsigned worker) {
    try {
      for (std::size_t i = next_.fetch_add(1); i < count_; i = next_.fetch_add(1)) body_(i, worker);
    } catch (...) {
      next_.store(count_);
      const std::lock_guard lock(mutex_);
      if (!error_) error_ = std::current_exception();
    }
  }

  const std::size_t count_;
  const ThreadPool::Body& body_;  // the caller's, and the caller waits for whoever has an index in hand
  std::atomic<std::size_t> next_{0};
  std::mutex mutex_;
  std::condition_variable idle_;
  unsigned helpers_working_ = 0;
  unsigned helpers_begun_ = 0;
  std::exception_ptr error_;
};

}  // namespace

unsigned hardware_threads() { return std::max(1U, std::thread::hardware_concurrency()); }

struct ThreadPool::State {
  std::mutex mutex;
  std::condition_variable wake;
  std::deque<std::shared_ptr<Job>> queue;  // one entry per helper wanted
  std::vector<std::thread> threads;
  bool stopping = false;

  void serve() {
    std::unique_lock lock(mutex);
    while (true) {
      wake.wait(lock, [this] { return stopping || !queue.empty(); });
      if (queue.empty()) return;
      const std::shared_ptr<Job> job = std::move(queue.front());
      queue.pop_front();
      lock.unlock();
      job->help();
      lock.lock();
    }
  }

  // Threads are started when first asked for and then kept. Where the system refuses more, the call goes on with fewer.
  void call_helpers(const std::shared_ptr<Job>& job, unsigned helpers) {
    {
      const std::lock_guard lock(mutex);
      try {
        while (threads.size() < helpers) threads.emplace_back([this] { serve(); });
      } catch (const std::system_error&) {
        helpers = static_cast<unsigned>(threads.size());
      }
      queue.insert(queue.end(), helpers, job);
    }
    wake.notify_all();
  }
};

ThreadPool::ThreadPool() : state_(std::make_unique<State>()) {}

ThreadPool::~ThreadPool() {
  {
    const std::lock_guard lock(state_->mutex);
    state_->stopping = true;
  }
  state_->wake.notify_all();
  for (std::thread& thread : state_->threads) thread.join();
}

unsigned ThreadPool::wanted(unsigned threads) {
  return threads == 0 ? std::min(hardware_threads(), kThreadsMax) : std::min(threads, kThreadsMax);
}

void ThreadPool::parallel_for(std::size_t count, unsigned threads, const Body& body) {
  const std::size_t wanted = std::min<std::size_t>(ThreadPool::wanted(threads), count);
  if (wanted <= 1) {
    for (std::size_t i = 0; i < count; ++i) body(i, 0);
    return;
  }
  const auto job = std::make_shared<Job>(count, body);
  state_->call_helpers(job, static_cast<unsigned>(wanted - 1));
  job->run();
}

namespace {

std::atomic<ThreadPool*> shared_pool{nullptr};

// A forked child inherits the pool's memory, perhaps with its mutex held, but none of its threads: it forgets the pool
// and starts anew.
void forget_shared_pool() { shared_pool.store(nullptr); }

}  // namespace

ThreadPool& ThreadPool::shared() {
  static const int registered = pthread_atfork(nullptr, nullptr, forget_shared_pool);
  static_cast<void>(registered);
  if (ThreadPool* pool = shared_pool.load()) return *pool;
  auto fresh = std::make_unique<ThreadPool>();
  ThreadPool* expected = nullptr;
  if (shared_pool.compare_exchange_strong(expected, fresh.get())) return *fresh.release();
  return *expected;
}

}  // namespace akidb
