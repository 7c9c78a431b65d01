#!/bin/sh
# Builds the MinIO server that the tests start, once, into $AKIDB_TOOLS_DIR (default ~/.cache/akidb/bin).
#
# From cold caches it takes minutes, so CI starts it first, in the background, and waits for it before the S3 tests:
#     scripts/build-minio.sh & minio=$!   ...   wait "$minio"
# Two runs at once are safe: the second waits and finds the work done. MinIO is AGPL-3.0: a test tool, never shipped.
set -eu

module=github.com/minio/minio
version=v0.0.0-20260212201848-7aac2a2c5b7c
folder=${AKIDB_TOOLS_DIR:-$HOME/.cache/akidb/bin}
stamp=$folder/minio.version

mkdir -p "$folder"
exec 9>"$folder/minio.lock"
if command -v flock >/dev/null; then flock 9; fi

# A binary without a stamp was put there by hand; it is used as it is.
if [ -x "$folder/minio" ] && { [ ! -e "$stamp" ] || [ "$(cat "$stamp")" = "$version" ]; }; then
    echo "MinIO is there: $folder/minio"
    exit 0
fi
if ! command -v go >/dev/null; then
    echo "build-minio.sh: Go is missing. Install Go 1.24 or newer (Debian: golang-go from backports; macOS: brew install go)," >&2
    echo "or set AKIDB_TEST_MINIO to a MinIO binary of yours." >&2
    exit 1
fi

building=$folder/building.$$
trap 'rm -rf "$building"' EXIT
echo "building MinIO $version into $folder with $(go version)"
GOBIN=$building nice go install -ldflags='-s -w' "$module@$version"
mv "$building/minio" "$folder/minio"
echo "$version" >"$stamp"
echo "MinIO is built: $folder/minio"
