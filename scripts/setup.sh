#!/bin/sh
# Makes .venv with AkiDB built into it (editable); does nothing, fast, when nothing it depends on has changed.
#   scripts/setup.sh [test] [lint] [bench] [peers]     with these dependency groups of pyproject.toml
# PYTHON names the interpreter, CC and CXX the compilers. Needs a POSIX shell, Python 3.11 or newer with venv, a C++20 compiler.
set -eu
cd "$(dirname "$0")/.."
venv=.venv

case $(uname -s) in
  Darwin) install_newer="a Python from python.org or your package manager"
          install_python="xcode-select --install, then a Python from python.org or your package manager"
          install_compiler="xcode-select --install" ;;
  *)      install_newer="sudo apt install python3.11-venv python3.11-dev, or PYTHON=… for another that is there"
          install_python="sudo apt install python3-venv python3-dev"
          install_compiler="sudo apt install g++ make" ;;
esac

stop() { # what is wrong, what to install
  printf 'setup: %s\n       on this system: %s\n' "$1" "$2" >&2
  exit 1
}

is_new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

find_python() {
  for name in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11}; do
    if command -v "$name" >/dev/null 2>&1 && is_new_enough "$name"; then
      command -v "$name"
      return
    fi
  done
  found=$(python3 --version 2>&1) || found="no python3"
  stop "Python 3.11 or newer is needed, found ${PYTHON:-$found}" "$install_newer"
}

check_python() {
  "$1" -c 'import ensurepip, venv' 2>/dev/null || stop "$1 has no venv module" "$install_python"
  "$1" -c 'import pathlib, sys, sysconfig; sys.exit(not pathlib.Path(sysconfig.get_path("include"), "Python.h").exists())' ||
    stop "$1 has no header files (Python.h)" "$install_python"
}

check_compiler() {
  compiler=${CXX:-c++}
  scratch=$(mktemp -d)
  printf '#include <bit>\n#include <concepts>\n#include <span>\nint main() { return std::popcount(0u); }\n' >"$scratch/try.cc"
  # Unquoted: CXX may hold flags or a launcher, as in "ccache g++".
  if $compiler -std=c++20 "$scratch/try.cc" -o "$scratch/try" 2>"$scratch/errors"; then
    rm -rf "$scratch"
  else
    head -3 "$scratch/errors" >&2
    rm -rf "$scratch"
    stop "no C++20 compiler: '$compiler' cannot compile a small program (GCC 11, Clang 14 or newer will do)" "$install_compiler"
  fi
}

contents() { # one checksum over the files below these paths
  find "$@" -type f ! -name '*.pyc' -print | LC_ALL=C sort | xargs cksum | cksum
}

is_done() { [ "$(cat "$venv/.akidb-$1" 2>/dev/null)" = "$2" ]; }
mark_done() { printf '%s\n' "$2" >"$venv/.akidb-$1"; }

pip() { "$venv/bin/python" -m pip --disable-pip-version-check --quiet "$@"; }

install_groups() { # the missing ones of these groups
  missing=
  for group in "$@"; do
    is_done "group-$group" "$packages" || missing="$missing --group $group"
  done
  [ -n "$missing" ] || return 0
  echo "setup: installing packages ($*)"
  pip install $missing
  for group in "$@"; do mark_done "group-$group" "$packages"; done
}

install_peers() { # one by one: not each of them is made for every machine
  is_done group-peers "$packages" && return 0
  echo "setup: installing packages (peers)"
  read_peers='import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["dependency-groups"]["peers"], sep="\n")'
  missing=
  for peer in $("$venv/bin/python" -c "$read_peers"); do
    pip install "$peer" 2>/dev/null || missing="$missing $peer"
  done
  if [ -n "$missing" ]; then
    echo "setup: not to be had for this machine:$missing" >&2
  else
    mark_done group-peers "$packages"
  fi
}

build() {
  sources=$(contents pyproject.toml CMakeLists.txt cmake csrc $(find akidb -name '*.pyx'))
  is_done build "$sources" && return 0
  check_compiler
  echo "setup: building the C++ core and installing akidb"
  pip install --no-build-isolation --editable '.[ingest]'
  mark_done build "$sources"
}

# A folder that was moved, or whose Python is gone, holds a .venv that no longer starts.
if ! "$venv/bin/python" -c 'import pip' 2>/dev/null; then
  python=$(find_python)
  check_python "$python"
  check_compiler # before the wait for packages, not after it
  echo "setup: making $venv with $("$python" --version) at $python"
  "$python" -m venv --clear "$venv"
  pip install --upgrade 'pip>=25.1' # dependency groups came with it
fi
packages=$(contents pyproject.toml)
groups=build
peers=
for group in "$@"; do
  if [ "$group" = peers ]; then peers=yes; else groups="$groups $group"; fi
done
install_groups $groups
[ -z "$peers" ] || install_peers
build
