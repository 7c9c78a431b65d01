#include <thread>

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

TEST(a_question_is_asked_in_its_time_and_on_its_own_thread_alone) {
  class Counted final : public Question {
   public:
    int times = 0;

   private:
    bool may_go_on() override { return ++times < 2; }
  };
  Counted question;
  Stop stop;
  stop.question = &question;
  stop.check();
  CHECK_EQ(0, question.times);
  std::thread([&] {
    const Deadline other = Deadline::after_seconds(0.06);
    while (!other.has_passed()) stop.check();
  }).join();
  CHECK_EQ(0, question.times);
  stop.check();
  CHECK_EQ(1, question.times);
  const auto ask_again = [&] {
    while (true) stop.check();
  };
  CHECK(test::thrown_by<Error>(ask_again).kind() == ErrorKind::kCancelled);
  CHECK_EQ(2, question.times);
}
