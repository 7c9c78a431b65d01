#!/usr/bin/env bash
# Runs tests/cpp compiled for 64-bit ARM: cross-built, linked statically, under qemu's user emulation, once per processor below, and
# where a processor has several levels of AKIDB_SIMD_LEVEL, once per level. Then counts the instructions of every kernel
# (scripts/count_instructions.py).
# It proves results, not speed, and not memory ordering: qemu is as strict as the machine it runs on (ThreadSanitizer is for that).
#   scripts/test-arm.sh [build folder, default build/arm]
# Exit: 0 passed, 1 failed, 77 tools are missing (1 instead where CI=true).
set -euo pipefail
cd "$(dirname "$0")/.."
build=${1:-build/arm}
unset AKIDB_SIMD_LEVEL # if set, then for this machine, not for the emulated ones

# qemu's name, the level that must be detected on it, and which tests: `all`, or `kernels` where only those can differ from another row.
processors="
  cortex-a72                         neon          all      armv8.0: Raspberry Pi 4, Jetson Nano; a wrong flag dies of SIGILL here
  cortex-a53                         neon          kernels  armv8.0
  a64fx                              neon          kernels  SVE without dotprod: a level may not take one for the other
  neoverse-n1                        neon_dotprod  kernels  Graviton2, Jetson Orin
  cortex-a76                         neon_dotprod  kernels  Raspberry Pi 5
  max,sve=off                        neon_i8mm     kernels  Apple M2 and later
  max,sve-default-vector-length=16   neon_i8mm     kernels  SVE of 128 bits: Graviton4, Neoverse N2
  max,sve-default-vector-length=64   neon_i8mm     kernels  SVE of another length than the one there is a unit for
  max,sve-default-vector-length=32   sve256        kernels  SVE of 256 bits: Graviton3
"

case $(uname -m) in
  aarch64 | arm64) # Linux, macOS
    echo "test-arm: this machine is ARM, where the ordinary C++ tests run: nothing to emulate"
    exit 0
    ;;
esac
missing=()
command -v cmake >/dev/null || missing+=("cmake (apt: cmake; or pip install cmake)")
command -v aarch64-linux-gnu-g++ >/dev/null || missing+=("aarch64-linux-gnu-g++ (apt: g++-aarch64-linux-gnu)")
emulator=$(command -v qemu-aarch64-static || command -v qemu-aarch64 || true)
[ -n "$emulator" ] || missing+=("qemu-aarch64-static (apt: qemu-user-static)")
command -v qemu-aarch64 >/dev/null || missing+=("qemu-aarch64, which unlike the static one takes plugins (apt: qemu-user)")
if [ ${#missing[@]} -gt 0 ]; then
  echo "test-arm: NOT RUN, the kernels for ARM stay untested on this machine. Missing:" >&2
  printf '  %s\n' "${missing[@]}" >&2
  [ "${CI:-}" = true ] && exit 1
  exit 77
fi

cmake -S . -B "$build" -DCMAKE_TOOLCHAIN_FILE=cmake/aarch64-linux-gnu.cmake -DCMAKE_CROSSCOMPILING_EMULATOR="$emulator" \
  -DCMAKE_EXE_LINKER_FLAGS=-static -DAKIDB_BUILD_TESTS=ON -DAKIDB_BUILD_BENCH=ON >/dev/null
jobs=${AKIDB_BUILD_JOBS:-$(nproc)}
cmake --build "$build" --parallel "$jobs"

run() { # processor, detected level, ctest's choice of tests…
  echo "test-arm: $1${AKIDB_SIMD_LEVEL:+ at $AKIDB_SIMD_LEVEL}"
  QEMU_CPU=$1 AKIDB_EXPECTED_SIMD_LEVEL=$2 ctest --test-dir "$build" --output-on-failure --timeout 600 --parallel "$jobs" "${@:3}" |
    { grep -v 'Passed\|^ *Start ' || true; }
}

# Tests of kernels go through every level of the processor by themselves; the rest runs at the level in use. What builds many graphs runs
# on the cortex-a72 alone: emulated SVE takes nine minutes for it, and test-arm-wheel.sh compares sealed segments at every level.
kernels=(-R '^(cpu|distance)/')
while read -r processor level tests _; do
  [ -n "$processor" ] || continue
  if [ "$tests" = all ]; then run "$processor" "$level" -E kernel_symbols; else run "$processor" "$level" "${kernels[@]}"; fi
done <<<"$processors"
for level in scalar neon neon_dotprod neon_fhm neon_bf16 neon_i8mm sve256; do
  AKIDB_SIMD_LEVEL=$level run max,sve-default-vector-length=32 sve256 -R '^(hnsw/(index|serialize)|quantization)'
done
python3 scripts/count_instructions.py "$build"
