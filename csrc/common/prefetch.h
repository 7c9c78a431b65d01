// Asking for memory before it is needed. A hint: any address is allowed, also an invalid one.
#pragma once

#include <cstddef>

namespace akidb {

constexpr std::size_t kCacheLineBytes = 64;  // Apple's lines of 128 bytes are two of these

inline void prefetch(const void* address) noexcept { __builtin_prefetch(address, 0, 3); }

// The first `bytes` of a range, line by line. Hardware prefetchers follow a stream
// once it has begun, so a long vector needs its first few lines only; asking for more
// fills the queue of outstanding misses and delays the next vector's first line.
inline void prefetch_range(const void* address, std::size_t bytes) noexcept {
  const char* line = static_cast<const char*>(address);
  for (std::size_t offset = 0; offset < bytes; offset += kCacheLineBytes) prefetch(line + offset);
}

// The same as far as L2, for a stream that is read only after much else was.
inline void prefetch_range_to_l2(const void* address, std::size_t bytes) noexcept {
  const char* line = static_cast<const char*>(address);
  for (std::size_t offset = 0; offset < bytes; offset += kCacheLineBytes) __builtin_prefetch(line + offset, 0, 2);
}

}  // namespace akidb
