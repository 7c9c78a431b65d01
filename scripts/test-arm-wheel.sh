#!/usr/bin/env bash
# Cross-builds the aarch64 wheel, judges it (scripts/check_wheel.py), and runs it in an emulated CPython: the tests of index, segment and
# formats, then at every level of instructions what depends on it, `akidb doctor`, and a whole database (tests/compat/exchange.py) that is
# created, filled, folded, built, searched and opened again, written by each architecture and opened by the other, byte for byte the same.
#   scripts/test-arm-wheel.sh [work folder, default build/arm-wheel]
# Needs Debian 12, g++-aarch64-linux-gnu and qemu-user-static; scripts/fetch_arm_python.py downloads 80 MB at first use and keeps them.
# Exit: 0 passed, 1 failed or nothing to be downloaded, 77 tools are missing (1 instead where CI=true).
set -euo pipefail
cd "$(dirname "$0")/.."
case $(uname -m) in
  aarch64 | arm64) # Linux, macOS
    echo "test-arm-wheel: this machine is ARM, where the ordinary tests run: nothing to emulate"
    exit 0
    ;;
esac
missing=()
grep -qs '^VERSION_CODENAME=bookworm' /etc/os-release || missing+=("Debian 12, whose packages hold a CPython 3.11 for ARM")
command -v aarch64-linux-gnu-g++ >/dev/null || missing+=("aarch64-linux-gnu-g++ (apt: g++-aarch64-linux-gnu)")
command -v qemu-aarch64-static >/dev/null || missing+=("qemu-aarch64-static (apt: qemu-user-static)")
if [ ${#missing[@]} -gt 0 ]; then
  echo "test-arm-wheel: NOT RUN, the wheel for ARM stays untested on this machine. Missing:" >&2
  printf '  %s\n' "${missing[@]}" >&2
  [ "${CI:-}" = true ] && exit 1
  exit 77
fi

work=$(realpath -m "${1:-build/arm-wheel}")
python=$PWD/.venv/bin/python
suffix=cpython-311-aarch64-linux-gnu
jobs=${AKIDB_BUILD_JOBS:-$(nproc)}

build_wheel() {
  local headers=$arm/root/usr/include
  rm -rf "$work/dist" "$work/akidb"
  _PYTHON_HOST_PLATFORM=linux-aarch64 SETUPTOOLS_EXT_SUFFIX=.$suffix.so CMAKE_TOOLCHAIN_FILE=$PWD/cmake/aarch64-linux-gnu.cmake \
    CMAKE_BUILD_PARALLEL_LEVEL=$jobs $python -m pip wheel -q --no-deps --no-build-isolation -w "$work/dist" . \
    -Ccmake.define.PYTHON_MODULE_EXTENSION=.$suffix.so \
    -Ccmake.define.Python_INCLUDE_DIR="$headers/python3.11" \
    -Ccmake.define.CMAKE_C_FLAGS="-idirafter $headers" -Ccmake.define.CMAKE_CXX_FLAGS="-idirafter $headers"
  $python scripts/check_wheel.py "$work"/dist/*.whl
  $python -m zipfile -e "$work"/dist/*.whl "$work/akidb"
}

lay_tree() { # nothing of this repository is to be imported but tests and bench, lest it be tested in the wheel's place
  rm -rf "$work/tree"
  mkdir -p "$work/tree"
  cp -r tests bench docs sample scripts pyproject.toml README.md CONTRIBUTING.md "$work/tree"
  $python -m compileall -q "$work/akidb" # as CPython here is of the same version; emulated it takes longer than the tests
}

emulated() { # processor, arguments of Python…
  (cd "$work/tree" && PYTHONPATH=$work/akidb:$arm/site AKIDB_SIMD_LEVEL=${cap:-} \
    qemu-aarch64-static -cpu "$1" -L "$arm/root" "$arm/root/usr/bin/python3.11" "${@:2}")
}

tested() { # processor, tests…
  # Without hypothesis' deadlines, which its profile for CI does not have.
  emulated "$1" -m pytest -q -p no:cacheprovider --hypothesis-profile=ci -m 'not slow and not s3' "${@:2}"
}

on_processor() { # processor, the level it must be at: what depends on the level
  emulated "$1" -m akidb.cli.akidb doctor --json | tee "$work/doctor-$2.json"
  $python -c 'import json, sys; processor = json.load(open(sys.argv[1]))["processor"]; sys.exit(processor["level"] != sys.argv[2])' \
    "$work/doctor-$2.json" "$2" || { echo "expected level $2" && return 1; }
  tested "$1" tests/unit/index/test_flat.py
  emulated "$1" -m tests.compat.exchange check "$work/written" "$work/written-$2"
  $python -m tests.compat.exchange check "$work/written-$2" "$work/written-after-$2"
}

capped() { # level, processor that has more
  cap=$1 on_processor "$2" "$1"
}

step() { # name, command…: its output is told when it failed
  # A shell of its own: in the condition of an if, errors would end nothing.
  if bash -euo pipefail -c '"$@"' "$1" "${@:2}" >"$work/$1.log" 2>&1; then echo "test-arm-wheel: $1 passed"; else
    sed "s/^/$1: /" "$work/$1.log" >&2
    echo "test-arm-wheel: $1 FAILED" >&2
    return 1
  fi
}

arm=$($python scripts/fetch_arm_python.py)
mkdir -p "$work"
build_wheel
lay_tree
rm -rf "$work"/written*
$python -m tests.compat.exchange write "$work/written"
export -f step on_processor capped tested emulated
export work arm python
# Processors as in scripts/test-arm.sh, one for each level; at neon_fhm and neon_bf16 no emulated one stops. Left out is what takes minutes:
# graphs of thousands of vectors, which tests/cpp builds at every level, and searches for counterexamples among segments, of which the
# exchange compares every byte.
xargs -P "$jobs" -L 1 bash -euo pipefail -c 'step "$@"' step <<STEPS
index tested cortex-a72 tests/unit/index/test_arguments.py tests/unit/index/test_file.py tests/unit/index/test_dtypes.py tests/unit/index/test_parts.py
segment tested cortex-a72 tests/unit/segment/test_reader.py tests/unit/segment/test_blocks.py tests/unit/segment/test_deletes.py tests/unit/cli/test_doctor.py tests/compat
sve256 on_processor max,sve-default-vector-length=32 sve256
neon on_processor cortex-a72 neon
neon_dotprod on_processor neoverse-n1 neon_dotprod
neon_i8mm on_processor max,sve=off neon_i8mm
neon_bf16 capped neon_bf16 max,sve=off
neon_fhm capped neon_fhm max,sve=off
STEPS
