#!/usr/bin/env bash
# Feeds mutated bytes to every native decoder under AddressSanitizer and UndefinedBehaviorSanitizer, by libFuzzer.
#   scripts/fuzz.sh [seconds] [target ...]     default: 30 seconds each of view, restore, merge, codes
# What it finds interesting stays in build/fuzz/corpus and is where the next run begins; an input that fails is written to
# build/fuzz/<target>-crash-…, and build/fuzz/tests/fuzz/fuzz_<target> FILE runs it again.
# Exit: 0 nothing found, 1 something failed, 77 no Clang with libFuzzer (1 instead where CI=true).
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-30}
[ $# -eq 0 ] || shift
[ $# -gt 0 ] || set -- view restore merge codes
build=build/fuzz

brings_fuzzer() {
  command -v "$1" >/dev/null && echo 'extern "C" int LLVMFuzzerTestOneInput(const char*, long) { return 0; }' |
    "$1" -fsanitize=fuzzer,address -x c++ - -o /dev/null 2>/dev/null
}
compiler=
for name in ${CLANGXX:-clang++ clang++-19 clang++-18 clang++-17 clang++-16 clang++-15 clang++-14}; do
  if brings_fuzzer "$name"; then
    compiler=$name
    break
  fi
done
if [ -z "$compiler" ]; then
  echo "fuzz: no clang++ with libFuzzer (apt: clang libclang-rt-dev; CLANGXX names another)" >&2
  if [ "${CI:-}" = true ]; then exit 1; else exit 77; fi
fi

cmake -S . -B "$build" -DCMAKE_CXX_COMPILER="$compiler" -DCMAKE_C_COMPILER="${compiler/++/}" -DAKIDB_BUILD_FUZZ=ON \
  -DAKIDB_SANITIZE="fuzzer-no-link;address;undefined" >/dev/null
cmake --build "$build" --parallel "${AKIDB_BUILD_JOBS:-$(nproc)}"
export UBSAN_OPTIONS=${UBSAN_OPTIONS:-print_stacktrace=1}
for target in "$@"; do
  corpus=$build/corpus/$target
  mkdir -p "$corpus"
  echo "fuzz: $target, $seconds s"
  "$build/tests/fuzz/fuzz_$target" -max_total_time="$seconds" -max_len=16384 -timeout=20 -rss_limit_mb=2048 -print_final_stats=1 \
    -verbosity=0 -print_funcs=0 -artifact_prefix="$build/$target-" "$corpus"
done
