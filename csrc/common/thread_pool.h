// Threads shared by everything in the process that works in parallel.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>

namespace akidb {

// Processors this process may run on (affinity respected), at least 1.
unsigned hardware_threads();

class ThreadPool {
 public:
  // body(index, worker): worker < threads is this thread's number
  // within the call, so that scratch space can be kept per worker.
  using Body = std::function<void(std::size_t index, unsigned worker)>;

  static constexpr unsigned kThreadsMax = 256;

  // The threads that a call asks for by `threads`. Who keeps something per worker passes this on: another call may find
  // another number of processors.
  static unsigned wanted(unsigned threads);

  ThreadPool();
  ~ThreadPool();  // waits for running calls' helpers to go
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  // Runs body for every index of [0, count), each once, in ascending order of start, on at most `threads` threads (0:
  // one per processor), the caller being worker 0. Returns when all are done. The first exception thrown by body stops
  // the handing out of indices and is rethrown here once no body runs any more. May be called from many threads at once
  // and from within a body: the caller always works itself and waits only for helpers that have begun, so a busy pool
  // makes a call slower but can't block it.
  void parallel_for(std::size_t count, unsigned threads, const Body& body);

  // The pool of the process, started when first used and never destroyed (its threads end with the process). A forked
  // child gets a new one.
  static ThreadPool& shared();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace akidb
