// What the C++ tests need of a framework, so that they build wherever a compiler is, cross compilers included.
//
//   TEST(what_it_shows) { CHECK(a < b); CHECK_EQ(expected, actual); }
//
// A failed check ends its test by an exception and the program goes on with the next test; the exit status tells. An
// argument selects tests by a part of their name.
#pragma once

#include <sstream>
#include <stdexcept>
#include <string>

namespace akidb::test {

struct Failure : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct Registration {
  Registration(const char* name, void (*run)());
};

[[noreturn]] void fail(const char* file, int line, const std::string& what);

template <class A, class B>
void check_eq(const A& expected, const B& actual, const char* text, const char* file, int line) {
  if (expected == actual) return;
  std::ostringstream what;
  what.precision(9);
  what << text << ": expected " << expected << ", got " << actual;
  fail(file, line, what.str());
}

// Runs `call`, which must throw an E, and returns it.
template <class E, class F>
E thrown_by(F&& call) {
  try {
    call();
  } catch (const E& error) {
    return error;
  }
  throw Failure("expected an exception, got none");
}

}  // namespace akidb::test

#define TEST(name)                                                         \
  static void name();                                                      \
  static const akidb::test::Registration name##_registration(#name, name); \
  static void name()

#define CHECK(condition)                                                 \
  do {                                                                   \
    if (!(condition)) akidb::test::fail(__FILE__, __LINE__, #condition); \
  } while (false)

#define CHECK_EQ(expected, actual) akidb::test::check_eq((expected), (actual), #actual, __FILE__, __LINE__)
