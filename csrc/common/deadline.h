// When to stop working: a moment in time, a flag that another thread may raise, or both.
#pragma once

#include <atomic>
#include <chrono>

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

// What long work polls: every block of a scan, every 256 hops of a graph walk, every batch of a build.
struct Stop {
  Deadline deadline;
  const CancelFlag* cancel = nullptr;  // not owned; null: cannot be cancelled

  bool requested() const noexcept { return (cancel != nullptr && cancel->is_raised()) || deadline.has_passed(); }

  // Throws Error of kind kCancelled or kDeadlineExceeded when it is time to stop.
  void check() const {
    if (cancel != nullptr && cancel->is_raised()) throw Error(ErrorKind::kCancelled, "cancelled by the caller");
    if (deadline.has_passed())
      throw Error(ErrorKind::kDeadlineExceeded, "the deadline passed before the work was done");
  }
};

}  // namespace akidb
