// Memory that ends where the readable memory ends: a kernel that reads one byte too many is killed.
#pragma once

#include <cstddef>
#include <cstdint>

#include <sys/mman.h>
#include <unistd.h>

#include "check.h"

namespace akidb::test {

class GuardedBytes {
 public:
  explicit GuardedBytes(std::size_t capacity) {
    const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    readable_ = (capacity + page - 1) / page * page;
    mapped_ = readable_ + page;
    base_ =
        static_cast<std::uint8_t*>(mmap(nullptr, mapped_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    CHECK(base_ != MAP_FAILED);
    CHECK_EQ(0, mprotect(base_ + readable_, page, PROT_NONE));
  }
  GuardedBytes(const GuardedBytes&) = delete;
  GuardedBytes& operator=(const GuardedBytes&) = delete;
  ~GuardedBytes() { munmap(base_, mapped_); }

  // The last bytes before the guard: aligned to nothing, as their number goes through the odd ones.
  std::uint8_t* last(std::size_t bytes) const {
    CHECK(bytes <= readable_);
    return base_ + readable_ - bytes;
  }

 private:
  std::size_t readable_ = 0;
  std::size_t mapped_ = 0;
  std::uint8_t* base_ = nullptr;
};

}  // namespace akidb::test
