#!/usr/bin/env bash
# Prints the name of a clang++ with libFuzzer and the sanitizers' libraries; nothing, and exit 1, where there is none.
# CLANGXX names one to try in place of those that are looked for.
set -euo pipefail
for name in ${CLANGXX:-clang++ clang++-19 clang++-18 clang++-17 clang++-16 clang++-15 clang++-14}; do
  if command -v "$name" >/dev/null && echo 'extern "C" int LLVMFuzzerTestOneInput(const char*, long) { return 0; }' |
    "$name" -fsanitize=fuzzer,address -x c++ - -o /dev/null 2>/dev/null; then
    echo "$name"
    exit
  fi
done
exit 1
