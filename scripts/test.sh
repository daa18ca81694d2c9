#!/bin/sh
# Runs the tests, with cargo-nextest where it is installed, else with cargo test. Both run the same
# tests; the last line is the runner's summary. With --all also those marked as slow.
set -eu
cd "$(dirname "$0")/.."

all=no
if [ "${1:-}" = --all ]; then all=yes; fi

if cargo nextest --version >/dev/null 2>&1; then
    if [ $all = yes ]; then set -- --run-ignored all; else set --; fi
    echo "test: cargo nextest run --locked $*"
    exec cargo nextest run --locked "$@"
fi
if [ $all = yes ]; then set -- -- --include-ignored; else set --; fi
echo "test: cargo test --locked $*"
exec cargo test --locked "$@"
