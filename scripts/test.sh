#!/bin/sh
# Runs the tests, with cargo-nextest where it is installed, else with cargo test. Both run the same
# tests; the last line is the runner's summary. With --all also those marked as slow, and the fuzz
# targets for a short time first. As root on Debian or Ubuntu it installs what the tests need beyond
# Rust, git and an engine.
set -eu
cd "$(dirname "$0")/.."

all=no
if [ "${1:-}" = --all ]; then all=yes; fi

# command:package, for the tests that run the command.
missing=
if [ $all = yes ] && ! command -v c++ >/dev/null; then missing=" g++"; fi
for tool in bash:bash busybox:busybox chattr:e2fsprogs curl:curl dash:dash docker-compose:docker-compose mount:mount python3:python3 script:bsdutils shellcheck:shellcheck unshare:util-linux; do
    command -v "${tool%:*}" >/dev/null || missing="$missing ${tool#*:}"
done
if [ -n "$missing" ]; then
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        printf 'test: error: the tests need these packages; install them:%s\n' "$missing" >&2
        exit 1
    fi
    echo "test: installing with apt-get:$missing"
    apt-get update -qq
    # shellcheck disable=SC2086 # a list of words
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
        -o DPkg::Lock::Timeout=120 $missing >/dev/null
fi
if [ "$(id -u)" != 0 ]; then
    echo "test: NOTICE: some tests must run as root, and fail without; they say so"
fi

if [ $all = yes ]; then scripts/fuzz.sh; fi
if cargo nextest --version >/dev/null 2>&1; then
    if [ $all = yes ]; then set -- --run-ignored all; else set --; fi
    echo "test: cargo nextest run --locked --no-fail-fast $*"
    exec cargo nextest run --locked --no-fail-fast "$@"
fi
if [ $all = yes ]; then set -- -- --include-ignored; else set --; fi
echo "test: cargo test --locked --no-fail-fast $*"
exec cargo test --locked --no-fail-fast "$@"
