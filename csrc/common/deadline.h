// When to stop working: a moment in time, a flag that another thread may raise, a question, or all of these.
#pragma once

#include <atomic>
#include <chrono>
#include <thread>

#include "common/error.h"

namespace akidb {

// A moment on the steady clock. Bindings make it from the seconds that remain, never from a clock value of Python's: on
// macOS time.monotonic() and std::chrono::steady_clock count from different origins.
class Deadline {
 public:
  using Clock = std::chrono::steady_clock;

  Deadline() = default;  // never
  // A negative or zero span has passed already; more than about 30 years is never.
  static Deadline after_seconds(double seconds) {
    Deadline deadline;
    if (seconds < 1e9)
      deadline.at_ = Clock::now() + std::chrono::nanoseconds(static_cast<long long>(seconds < 0 ? 0 : seconds * 1e9));
    return deadline;
  }

  bool is_never() const noexcept { return at_ == Clock::time_point::max(); }
  bool has_passed() const noexcept { return !is_never() && Clock::now() >= at_; }

 private:
  Clock::time_point at_ = Clock::time_point::max();
};

// Raised by any thread, seen by all that poll it. Relaxed order is enough: it carries no data, and a poll that comes
// late only works longer.
class CancelFlag {
 public:
  void raise() noexcept { raised_.store(true, std::memory_order_relaxed); }
  bool is_raised() const noexcept { return raised_.load(std::memory_order_relaxed); }

 private:
  std::atomic<bool> raised_{false};
};

// A question that only the thread that made this may ask, such as whether somebody pressed Ctrl-C: asked at most every
// 50 ms, since asking may mean to wait for a lock.
class Question {
 public:
  Question() = default;
  Question(const Question&) = delete;
  Question& operator=(const Question&) = delete;
  virtual ~Question() = default;

  // False unless it is time to ask, and this is the thread to ask on.
  bool says_stop() {
    if (std::this_thread::get_id() != asker_) return false;
    const Deadline::Clock::time_point now = Deadline::Clock::now();
    if (now < next_) return false;
    next_ = now + kPeriod;
    return !may_go_on();
  }

 private:
  static constexpr std::chrono::milliseconds kPeriod{50};

  virtual bool may_go_on() = 0;

  const std::thread::id asker_ = std::this_thread::get_id();
  Deadline::Clock::time_point next_ = Deadline::Clock::now() + kPeriod;
};

// What long work polls: every block of a scan and every answer that it gathers, every 256 hops of a graph walk, every
// batch of a build.
struct Stop {
  Deadline deadline;
  const CancelFlag* cancel = nullptr;  // not owned; null: cannot be cancelled
  Question* question = nullptr;        // not owned; null: nobody is asked

  bool requested() const noexcept { return (cancel != nullptr && cancel->is_raised()) || deadline.has_passed(); }

  // Throws Error of kind kCancelled or kDeadlineExceeded when it is time to stop.
  void check() const {
    if ((cancel != nullptr && cancel->is_raised()) || (question != nullptr && question->says_stop()))
      throw Error(ErrorKind::kCancelled, "cancelled by the caller");
    if (deadline.has_passed())
      throw Error(ErrorKind::kDeadlineExceeded, "the deadline passed before the work was done");
  }
};

}  // namespace akidb
