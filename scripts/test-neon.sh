#!/usr/bin/env bash
# Runs tests/cpp compiled for 64-bit ARM: cross-built, linked statically, under qemu's user emulation, once per processor below.
# It proves results, not speed, and not memory ordering: qemu is as strict as the machine it runs on (ThreadSanitizer is for that).
#   scripts/test-neon.sh [build folder, default build/neon]
# Exit: 0 passed, 1 failed, 77 tools are missing (1 instead where CI=true).
set -euo pipefail
cd "$(dirname "$0")/.."
build=${1:-build/neon}

# armv8.0, which a wrong -march would make die of SIGILL; and the features of Graviton2, Jetson Orin and Apple M1.
processors="cortex-a72 neoverse-n1"

if [ "$(uname -m)" = aarch64 ]; then
  echo "test-neon: this machine is aarch64, where the ordinary C++ tests run the NEON kernels: nothing to emulate"
  exit 0
fi
missing=()
command -v cmake >/dev/null || missing+=("cmake (apt: cmake; or pip install cmake)")
command -v aarch64-linux-gnu-g++ >/dev/null || missing+=("aarch64-linux-gnu-g++ (apt: g++-aarch64-linux-gnu)")
emulator=$(command -v qemu-aarch64-static || command -v qemu-aarch64 || true)
[ -n "$emulator" ] || missing+=("qemu-aarch64-static (apt: qemu-user-static)")
if [ ${#missing[@]} -gt 0 ]; then
  echo "test-neon: NOT RUN, the NEON kernels stay untested on this machine. Missing:" >&2
  printf '  %s\n' "${missing[@]}" >&2
  [ "${CI:-}" = true ] && exit 1
  exit 77
fi

cmake -S . -B "$build" -DCMAKE_TOOLCHAIN_FILE=cmake/aarch64-linux-gnu.cmake -DCMAKE_CROSSCOMPILING_EMULATOR="$emulator" \
  -DCMAKE_EXE_LINKER_FLAGS=-static -DAKIDB_BUILD_TESTS=ON >/dev/null
cmake --build "$build" --parallel "${AKIDB_BUILD_JOBS:-$(nproc)}"
for processor in $processors; do
  echo "test-neon: $processor"
  QEMU_CPU=$processor ctest --test-dir "$build" --output-on-failure --timeout 600
done
