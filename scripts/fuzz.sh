#!/bin/sh
# Runs each target of fuzz/ for some seconds (by default 20): the parsers that see an agent's bytes.
# Without a sanitizer a stable toolchain builds them: the code has no `unsafe`, and panics are found
# all the same. A finding is written to fuzz/artifacts and ends it.
set -eu
cd "$(dirname "$0")/.."

version=0.13.2
seconds=${1:-20}

if ! cargo fuzz --version >/dev/null 2>&1; then
    echo "fuzz: installing cargo-fuzz $version with cargo install (some minutes)"
    cargo install --locked "cargo-fuzz@$version"
fi
# What is found on the way is not for the tree: its corpus is chosen by hand.
found=$PWD/target/fuzz
export CARGO_TARGET_DIR="$found"
cargo fuzz build --sanitizer none
for target in $(cargo fuzz list); do
    echo "fuzz: $target for $seconds s"
    mkdir -p "$found/corpus/$target"
    cargo fuzz run --sanitizer none "$target" "$found/corpus/$target" "fuzz/corpus/$target" -- \
        -max_total_time="$seconds" -max_len=65536 -timeout=10 -rss_limit_mb=1024 -verbosity=0 \
        -print_final_stats=1
done
