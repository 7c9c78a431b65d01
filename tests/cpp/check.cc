#include "check.h"

#include <cstdio>
#include <cstring>
#include <exception>
#include <vector>

namespace akidb::test {

namespace {

struct Test {
  const char* name;
  void (*run)();
};

std::vector<Test>& tests() {
  static std::vector<Test> all;
  return all;
}

bool passes(const Test& test) {
  try {
    test.run();
    std::printf("ok    %s\n", test.name);
    return true;
  } catch (const std::exception& error) {
    std::printf("FAIL  %s\n      %s\n", test.name, error.what());
    return false;
  }
}

}  // namespace

Registration::Registration(const char* name, void (*run)()) { tests().push_back({name, run}); }

void fail(const char* file, int line, const std::string& what) {
  throw Failure(std::string(file) + ":" + std::to_string(line) + ": " + what);
}

}  // namespace akidb::test

int main(int argc, char** argv) {
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  int run = 0;
  int failed = 0;
  for (const auto& test : akidb::test::tests()) {
    if (argc > 1 && std::strstr(test.name, argv[1]) == nullptr) continue;
    ++run;
    failed += akidb::test::passes(test) ? 0 : 1;
  }
  std::printf("%d run, %d failed\n", run, failed);
  return failed == 0 && run > 0 ? 0 : 1;
}
