// The errors native code raises. The bindings map each kind to one class of akidb/errors.py; native code throws nothing
// else on purpose.
#pragma once

#include <stdexcept>
#include <string>

namespace akidb {

enum class ErrorKind {
  kInvalidInput,      // the caller's values were refused, nothing was changed
  kConflict,          // what was to be created exists already
  kNotFound,          // what was named does not exist
  kDeadlineExceeded,  // time ran out; the work has stopped
  kCancelled,         // the caller asked to stop; the work has stopped
  kCorruption,        // bytes fail their checks
};

class Error : public std::runtime_error {
 public:
  Error(ErrorKind kind, const std::string& message) : std::runtime_error(message), kind_(kind) {}
  ErrorKind kind() const noexcept { return kind_; }

 private:
  ErrorKind kind_;
};

[[noreturn]] inline void throw_invalid(const std::string& message) { throw Error(ErrorKind::kInvalidInput, message); }

}  // namespace akidb
