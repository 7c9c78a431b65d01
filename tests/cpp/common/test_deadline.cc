#include "check.h"
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
