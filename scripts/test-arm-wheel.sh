#!/usr/bin/env bash
# Cross-builds the aarch64 wheel and runs it in an emulated CPython for ARM: kernels, an index, and a database that is created, filled,
# searched and opened again, also one whose files x86-64 wrote, and whose graph must be the very bytes that ARM builds.
#   scripts/test-arm-wheel.sh [work folder, default build/arm-wheel]
# Needs Debian 12, where Python 3.11 for arm64 comes as packages (unpacked into the work folder; the system stays as it is), with
# g++-aarch64-linux-gnu and qemu-user-static; downloads about 150 MB the first time. Not part of CI, where runners of that architecture do it.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(realpath -m "${1:-build/arm-wheel}")
root=$work/debian/root
python=$PWD/.venv/bin/python
suffix=.cpython-311-aarch64-linux-gnu.so
processors="cortex-a72 neoverse-n1 max,sve=off max,sve-default-vector-length=32"

fetch_python() {
  local apt=$work/debian source
  source=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Codename: bookworm' | head -1)
  mkdir -p "$apt"/{lists/partial,cache/archives/partial,root}
  : >"$apt/status"
  echo "deb [arch=arm64] $source bookworm main" >"$apt/sources.list"
  local options=(-qq -o APT::Architecture=arm64 -o APT::Architectures::=arm64 -o "Dir::Etc::sourcelist=$apt/sources.list"
    -o Dir::Etc::sourceparts=- -o "Dir::State=$apt" -o "Dir::State::status=$apt/status" -o "Dir::State::lists=$apt/lists"
    -o "Dir::Cache=$apt/cache" -o APT::Install-Recommends=false -o APT::Sandbox::User=root)
  apt-get "${options[@]}" update
  apt-get "${options[@]}" -y -d install python3.11 libpython3.11-dev libstdc++6 libgomp1 >/dev/null
  for package in "$apt"/cache/archives/*.deb; do dpkg-deb -x "$package" "$root"; done
}

fetch_dependencies() {
  local platforms=() names
  for tag in manylinux_2_28 manylinux_2_27 manylinux_2_17 manylinux2014; do platforms+=(--platform "${tag}_aarch64"); done
  names=$($python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["dependencies"], sep="\n")')
  mapfile -t names <<<"$names"
  $python -m pip download -q --only-binary=:all: --python-version 3.11 "${platforms[@]}" -d "$work/whl" "${names[@]}"
  for wheel in "$work"/whl/*.whl; do $python -m zipfile -e "$wheel" "$work/site"; done
}

build_wheel() {
  rm -rf "$work/dist" "$work/akidb"
  _PYTHON_HOST_PLATFORM=linux-aarch64 SETUPTOOLS_EXT_SUFFIX=$suffix CMAKE_TOOLCHAIN_FILE=$PWD/cmake/aarch64-linux-gnu.cmake \
    $python -m pip wheel -q --no-deps --no-build-isolation -w "$work/dist" . -Ccmake.define.PYTHON_MODULE_EXTENSION=$suffix \
    -Ccmake.define.Python_INCLUDE_DIR="$root/usr/include/python3.11" \
    -Ccmake.define.CMAKE_C_FLAGS="-idirafter $root/usr/include" -Ccmake.define.CMAKE_CXX_FLAGS="-idirafter $root/usr/include"
  $python -m zipfile -e "$work"/dist/*.whl "$work/akidb"
}

check_wheel() { # size, and alignment of what is mapped
  local bytes
  bytes=$(stat -c %s "$work"/dist/*.whl)
  [ "$bytes" -lt 5000000 ] || { echo "test-arm-wheel: the wheel has $bytes bytes, over 5 MB" >&2; return 1; }
  find "$work/akidb" -name '*.so' | while read -r module; do
    aarch64-linux-gnu-readelf -lW "$module" | awk -v name="$module" '$1 == "LOAD" && $NF != "0x10000" { print name ": " $0; bad = 1 } END { exit bad }'
  done
  echo "test-arm-wheel: $(basename "$work"/dist/*.whl), $bytes bytes"
}

[ -e "$root/usr/bin/python3.11" ] || fetch_python
[ -d "$work/site" ] || fetch_dependencies
build_wheel
check_wheel
rm -rf "$work/written"
$python scripts/arm_wheel_probe.py write "$work/written"
for processor in $processors; do
  echo "test-arm-wheel: $processor"
  PYTHONPATH=$work/akidb:$work/site qemu-aarch64-static -cpu "$processor" -L "$root" "$root/usr/bin/python3.11" \
    scripts/arm_wheel_probe.py check "$work/written"
done
