#!/usr/bin/env bash
# Feeds mutated bytes to every native decoder under AddressSanitizer and UndefinedBehaviorSanitizer, by libFuzzer.
#   scripts/fuzz.sh [seconds] [target ...]     default: 30 seconds each of view, restore, merge, codes
# What it finds interesting stays in build/fuzz/<target> and is where the next run begins; an input that fails is written to
# build/fuzz/<target>-crash-…, and build/address/tests/fuzz/fuzz_<target> FILE runs it again.
# Exit: 0 nothing found, 1 something failed, 77 no Clang with libFuzzer (1 instead where CI=true).
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-30}
[ $# -eq 0 ] || shift
[ $# -gt 0 ] || set -- view restore merge codes
build=build/address
fuzz=build/fuzz

if ! clang=$(scripts/find-clang.sh); then
  echo "fuzz: no clang++ with libFuzzer (apt: clang libclang-rt-dev; CLANGXX names another)" >&2
  if [ "${CI:-}" = true ]; then exit 1; else exit 77; fi
fi

# The same libraries as scripts/test-sanitizers.sh tests.
cmake -S . -B "$build" -DCMAKE_CXX_COMPILER="$clang" -DCMAKE_C_COMPILER="${clang/++/}" -DAKIDB_BUILD_FUZZ=ON \
  -DAKIDB_SANITIZE="fuzzer-no-link;address;undefined" >/dev/null
cmake --build "$build" --parallel "${AKIDB_BUILD_JOBS:-$(nproc)}" --target "${@/#/fuzz_}"
export UBSAN_OPTIONS=${UBSAN_OPTIONS:-print_stacktrace=1}
for target in "$@"; do
  corpus=$fuzz/$target
  mkdir -p "$corpus"
  echo "fuzz: $target, $seconds s"
  "$build/tests/fuzz/fuzz_$target" -max_total_time="$seconds" -max_len=16384 -timeout=20 -rss_limit_mb=2048 -print_final_stats=1 \
    -verbosity=0 -print_funcs=0 -artifact_prefix="$fuzz/$target-" "$corpus"
done
