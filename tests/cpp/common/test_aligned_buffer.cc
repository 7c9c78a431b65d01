#include <cstdint>
#include <new>
#include <utility>
#include <vector>

#include "check.h"
#include "common/aligned_buffer.h"

using namespace akidb;

TEST(aligned_buffers_are_aligned_zeroed_and_movable) {
  for (const std::size_t size : {std::size_t{1}, std::size_t{17}, std::size_t{1} << 20}) {
    AlignedBuffer<float> buffer(size);
    CHECK_EQ(0U, reinterpret_cast<std::uintptr_t>(buffer.data()) % 64);
    for (const float value : buffer) CHECK_EQ(0.0F, value);
    buffer[size - 1] = 3.0F;
    const AlignedBuffer<float> moved = std::move(buffer);
    CHECK_EQ(size, moved.size());
    CHECK_EQ(3.0F, moved[size - 1]);
  }
  CHECK(AlignedBuffer<int>().empty());
  CHECK(AlignedBuffer<int>(0).data() == nullptr);
  test::thrown_by<std::bad_alloc>([] { AlignedBuffer<double>(static_cast<std::size_t>(-1)); });
}

TEST(memory_used_before_is_zeroed_too) {
  for (const float written : {3.0F, 4.0F}) {
    std::vector<AlignedBuffer<float>> buffers;
    for (int i = 0; i < 64; ++i) {  // enough that the second round can't but get memory of the first
      buffers.emplace_back(100);
      for (const float value : buffers.back()) CHECK_EQ(0.0F, value);
      for (float& value : buffers.back()) value = written;
    }
  }
}
