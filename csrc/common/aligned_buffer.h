// An array of plain values that starts on a cache line, and on a huge page where it is large enough to use one.
#pragma once

#include <cstddef>
#include <cstring>
#include <limits>
#include <new>
#include <type_traits>
#include <utility>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace akidb {

// Zeroed, movable, of fixed size. Throws std::bad_alloc, also when size * sizeof(T) does not fit.
// Huge pages: random access to gigabytes of vectors misses the TLB at nearly every row when pages are 4 KiB.
template <class T>
class AlignedBuffer {
  static_assert(std::is_trivially_copyable_v<T>, "bytes are zeroed and freed, no constructor or destructor runs");

 public:
  AlignedBuffer() = default;
  explicit AlignedBuffer(std::size_t size) : data_(allocate(size)), size_(size) {}
  AlignedBuffer(AlignedBuffer&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  AlignedBuffer& operator=(AlignedBuffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }
  AlignedBuffer(const AlignedBuffer&) = delete;
  AlignedBuffer& operator=(const AlignedBuffer&) = delete;
  ~AlignedBuffer() {
    if (data_ != nullptr) ::operator delete(data_, std::align_val_t(alignment(size_ * sizeof(T))));
  }

  T* data() noexcept { return data_; }
  const T* data() const noexcept { return data_; }
  std::size_t size() const noexcept { return size_; }
  bool empty() const noexcept { return size_ == 0; }
  T& operator[](std::size_t i) noexcept { return data_[i]; }
  const T& operator[](std::size_t i) const noexcept { return data_[i]; }
  T* begin() noexcept { return data_; }
  T* end() noexcept { return data_ + size_; }
  const T* begin() const noexcept { return data_; }
  const T* end() const noexcept { return data_ + size_; }

 private:
  static constexpr std::size_t kLineBytes = 64;
  static constexpr std::size_t kHugePageBytes = std::size_t{2} << 20;

  static constexpr std::size_t alignment(std::size_t bytes) {
    return bytes >= kHugePageBytes ? kHugePageBytes : (alignof(T) > kLineBytes ? alignof(T) : kLineBytes);
  }

  static T* allocate(std::size_t size) {
    if (size == 0) return nullptr;
    if (size > std::numeric_limits<std::size_t>::max() / 2 / sizeof(T)) throw std::bad_array_new_length();
    const std::size_t bytes = size * sizeof(T);
    void* memory = ::operator new(bytes, std::align_val_t(alignment(bytes)));
#if defined(__linux__) && defined(MADV_HUGEPAGE)
    if (bytes >= kHugePageBytes)
      madvise(memory, bytes / kHugePageBytes * kHugePageBytes, MADV_HUGEPAGE);  // refusal costs speed only
#endif
    std::memset(memory, 0, bytes);
    return static_cast<T*>(memory);
  }

  T* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace akidb
