#!/bin/sh
# Builds the S3 servers that the tests start, once, into $AKIDB_TOOLS_DIR (default ~/.cache/akidb/bin).
#
# From cold caches it takes minutes, so CI starts it first, in the background, and waits for it before the S3 tests:
#     scripts/build-s3-servers.sh & servers=$!   ...   wait "$servers"
# Two runs at once are safe: the second waits and finds the work done. Test tools, never shipped: MinIO is AGPL-3.0,
# versitygw (the second implementation, so that no test learns one server's habits) Apache-2.0, toxiproxy (a network that
# fails on command, between nodes and a server) MIT.
set -eu

folder=${AKIDB_TOOLS_DIR:-$HOME/.cache/akidb/bin}
mkdir -p "$folder"

build() {
    name=$1 package=$2 version=$3
    stamp=$folder/$name.version
    exec 9>"$folder/$name.lock"
    if command -v flock >/dev/null; then flock 9; fi

    # A binary without a stamp was put there by hand; it is used as it is.
    if [ -x "$folder/$name" ] && { [ ! -e "$stamp" ] || [ "$(cat "$stamp")" = "$version" ]; }; then
        echo "$name is there: $folder/$name"
        return
    fi
    if ! command -v go >/dev/null; then
        variable=AKIDB_TEST_$(echo "$name" | tr '[:lower:]' '[:upper:]')
        echo "build-s3-servers.sh: Go is missing. Install Go 1.24 or newer (Debian: golang-go from backports; macOS:" >&2
        echo "brew install go), or set $variable to a $name binary of yours." >&2
        exit 1
    fi

    building=$folder/building.$$
    trap 'rm -rf "$building"' EXIT
    echo "building $name $version into $folder with $(go version)"
    GOBIN=$building nice go install -ldflags='-s -w' "$package@$version"
    mv "$building"/* "$folder/$name" # one file, named after the last part of the package
    echo "$version" >"$stamp"
    echo "$name is built: $folder/$name"
}

build minio github.com/minio/minio v0.0.0-20260212201848-7aac2a2c5b7c
build toxiproxy github.com/Shopify/toxiproxy/v2/cmd/server v2.5.0
build versitygw github.com/versity/versitygw/cmd/versitygw v1.8.0
