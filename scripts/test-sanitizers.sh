#!/usr/bin/env bash
# Runs tests/cpp under AddressSanitizer with UndefinedBehaviorSanitizer, then under ThreadSanitizer; our warnings are errors here.
#   scripts/test-sanitizers.sh [address] [thread]     default: both, in build/address and build/thread
# By Clang where there is one (scripts/find-clang.sh), under whose sanitizers most take a third of the processor time.
set -euo pipefail
cd "$(dirname "$0")/.."

command -v cmake >/dev/null || { echo "test-sanitizers: cmake is missing (apt: cmake; or pip install cmake)" >&2; exit 1; }
[ $# -gt 0 ] || set -- address thread
export ASAN_OPTIONS=${ASAN_OPTIONS:-detect_stack_use_after_return=1:strict_init_order=1}
export UBSAN_OPTIONS=${UBSAN_OPTIONS:-print_stacktrace=1}
# A test forks and starts threads in the child, as programs of Python do.
export TSAN_OPTIONS=${TSAN_OPTIONS:-halt_on_error=1:second_deadlock_stack=1:die_after_fork=0}
options=(-DAKIDB_BUILD_TESTS=ON -DCMAKE_COMPILE_WARNING_AS_ERROR=ON)
if clang=$(scripts/find-clang.sh); then options+=(-DCMAKE_CXX_COMPILER="$clang" -DCMAKE_C_COMPILER="${clang/++/}"); fi

for kind in "$@"; do
  case $kind in
    address) sanitizers="${clang:+fuzzer-no-link;}address;undefined" ;; # scripts/fuzz.sh goes on from what is built here
    thread) sanitizers="thread" ;;
    *) echo "test-sanitizers: '$kind' is not one of address, thread" >&2; exit 1 ;;
  esac
  build=build/$kind
  cmake -S . -B "$build" "${options[@]}" -DAKIDB_SANITIZE="$sanitizers" >/dev/null
  jobs=${AKIDB_BUILD_JOBS:-$(nproc)}
  cmake --build "$build" --parallel "$jobs"
  echo "test-sanitizers: $kind"
  ctest --test-dir "$build" --output-on-failure --timeout 900 --parallel "$jobs"
done
