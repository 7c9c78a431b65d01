#include "check.h"
#include "common/aligned_buffer.h"
#include "common/deadline.h"

using namespace akidb;

TEST(deadlines_pass_or_never_do) {
  CHECK(!Deadline().has_passed());
  CHECK(Deadline::after_seconds(0).has_passed());
  CHECK(Deadline::after_seconds(-5).has_passed());
  CHECK(!Deadline::after_seconds(3600).has_passed());
  CHECK(Deadline::after_seconds(1e300).is_never());
}

TEST(stop_tells_cancelled_from_late) {
  Stop().check();
  CancelFlag flag;
  Stop stop{Deadline(), &flag};
  stop.check();
  CHECK(!stop.requested());
  flag.raise();
  CHECK(stop.requested());
  CHECK(test::thrown_by<Error>([&] { stop.check(); }).kind() == ErrorKind::kCancelled);
  const Stop late{Deadline::after_seconds(0), nullptr};
  CHECK(test::thrown_by<Error>([&] { late.check(); }).kind() == ErrorKind::kDeadlineExceeded);
}

TEST(aligned_buffers_are_aligned_zeroed_and_movable) {
  for (const std::size_t size : {std::size_t{1}, std::size_t{17}, std::size_t{1} << 20}) {
    AlignedBuffer<float> buffer(size);
    CHECK_EQ(0U, reinterpret_cast<std::uintptr_t>(buffer.data()) % 64);
    for (const float value : buffer) CHECK(value == 0.0F);
    buffer[size - 1] = 3.0F;
    const AlignedBuffer<float> moved = std::move(buffer);
    CHECK_EQ(size, moved.size());
    CHECK_EQ(3.0F, moved[size - 1]);
  }
  CHECK(AlignedBuffer<int>().empty());
  CHECK(AlignedBuffer<int>(0).data() == nullptr);
  test::thrown_by<std::bad_alloc>([] { AlignedBuffer<double>(static_cast<std::size_t>(-1)); });
}
