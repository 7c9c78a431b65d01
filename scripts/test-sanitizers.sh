#!/usr/bin/env bash
# Runs tests/cpp under AddressSanitizer with UndefinedBehaviorSanitizer, then under ThreadSanitizer; our warnings are errors here.
#   scripts/test-sanitizers.sh [address] [thread]     default: both, in build/address and build/thread
set -euo pipefail
cd "$(dirname "$0")/.."

command -v cmake >/dev/null || { echo "test-sanitizers: cmake is missing (apt: cmake; or pip install cmake)" >&2; exit 1; }
[ $# -gt 0 ] || set -- address thread
export ASAN_OPTIONS=${ASAN_OPTIONS:-detect_stack_use_after_return=1:strict_init_order=1}
export UBSAN_OPTIONS=${UBSAN_OPTIONS:-print_stacktrace=1}
export TSAN_OPTIONS=${TSAN_OPTIONS:-halt_on_error=1:second_deadlock_stack=1}

for kind in "$@"; do
  case $kind in
    address) sanitizers="address;undefined" ;;
    thread) sanitizers="thread" ;;
    *) echo "test-sanitizers: '$kind' is not one of address, thread" >&2; exit 1 ;;
  esac
  build=build/$kind
  cmake -S . -B "$build" -DAKIDB_BUILD_TESTS=ON -DAKIDB_SANITIZE="$sanitizers" -DCMAKE_COMPILE_WARNING_AS_ERROR=ON >/dev/null
  jobs=${AKIDB_BUILD_JOBS:-$(nproc)}
  cmake --build "$build" --parallel "$jobs"
  echo "test-sanitizers: $kind"
  ctest --test-dir "$build" --output-on-failure --timeout 900 --parallel "$jobs"
done
