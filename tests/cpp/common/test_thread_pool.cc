#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <stdexcept>
#include <thread>
#include <vector>

#include "check.h"
#include "common/thread_pool.h"

using akidb::ThreadPool;

TEST(every_index_runs_once_and_a_worker_number_belongs_to_one_thread_at_a_time) {
  ThreadPool pool;
  for (const unsigned threads : {1U, 2U, 7U}) {
    std::vector<std::atomic<int>> runs(1000);
    std::vector<std::atomic<int>> inside(threads);
    pool.parallel_for(runs.size(), threads, [&](std::size_t i, unsigned worker) {
      CHECK(worker < threads);
      CHECK_EQ(0, inside[worker].fetch_add(1));
      ++runs[i];
      --inside[worker];
    });
    for (const auto& count : runs) CHECK_EQ(1, count.load());
  }
}

TEST(nothing_to_do_and_zero_threads_are_fine) {
  ThreadPool pool;
  pool.parallel_for(0, 4, [](std::size_t, unsigned) { CHECK(false); });
  std::atomic<int> runs{0};
  pool.parallel_for(3, 0, [&](std::size_t, unsigned) { ++runs; });
  CHECK_EQ(3, runs.load());
}

TEST(threads_really_work_side_by_side) {
  ThreadPool pool;
  std::atomic<int> arrived{0};
  // Each body waits for the other: one thread alone would never leave.
  pool.parallel_for(2, 2, [&](std::size_t, unsigned) {
    ++arrived;
    while (arrived.load() < 2) std::this_thread::yield();
  });
  CHECK_EQ(2, arrived.load());
}

TEST(an_exception_reaches_the_caller_once_all_workers_have_stopped) {
  ThreadPool pool;
  std::atomic<int> runs{0};
  std::atomic<int> arrived{0};
  const auto error = akidb::test::thrown_by<std::invalid_argument>([&] {
    pool.parallel_for(1'000'000, 2, [&](std::size_t i, unsigned) {
      // Both workers are inside before one throws, so the other has all the rest before it unless it is told to stop.
      for (++arrived; arrived.load() < 2;) std::this_thread::yield();
      if (i == 1) throw std::invalid_argument("one");
      ++runs;
    });
  });
  CHECK_EQ(std::string("one"), error.what());
  CHECK(runs.load() < 999'999);
}

TEST(an_exception_of_a_lone_worker_reaches_the_caller) {
  ThreadPool pool;
  int runs = 0;
  const auto error = akidb::test::thrown_by<std::invalid_argument>([&] {
    pool.parallel_for(10, 1, [&](std::size_t i, unsigned) {
      ++runs;
      if (i == 5) throw std::invalid_argument("five");
    });
  });
  CHECK_EQ(std::string("five"), error.what());
  CHECK_EQ(6, runs);
}

TEST(calls_may_nest_and_come_from_many_threads) {
  ThreadPool pool;
  std::atomic<int> runs{0};
  std::vector<std::thread> callers;
  callers.reserve(4);
  for (int caller = 0; caller < 4; ++caller) {
    callers.emplace_back([&] {
      for (int repeat = 0; repeat < 20; ++repeat) {
        pool.parallel_for(
            5, 3, [&](std::size_t, unsigned) { pool.parallel_for(5, 3, [&](std::size_t, unsigned) { ++runs; }); });
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  CHECK_EQ(4 * 20 * 25, runs.load());
}

#if !defined(__SANITIZE_THREAD__)  // its runtime refuses threads after a fork
TEST(a_forked_child_gets_a_pool_that_works) {
  ThreadPool::shared().parallel_for(100, 3, [](std::size_t, unsigned) {});
  const pid_t child = fork();
  if (child == 0) {
    std::atomic<int> arrived{0};
    ThreadPool::shared().parallel_for(2, 2, [&](std::size_t, unsigned) {
      ++arrived;
      while (arrived.load() < 2) std::this_thread::yield();
    });
    _exit(arrived.load() == 2 ? 0 : 1);
  }
  int status = -1;
  CHECK_EQ(child, waitpid(child, &status, 0));
  CHECK(WIFEXITED(status));
  CHECK_EQ(0, WEXITSTATUS(status));
}
#endif
