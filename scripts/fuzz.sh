#!/bin/sh
# Runs each target of fuzz/, the parsers that see an agent's bytes: on the same 20 000 inputs each time,
# or with a number of seconds for so long, on inputs that are others each time.
# Without a sanitizer a stable toolchain builds them: the code has no `unsafe`, and panics are found
# all the same. A finding is written to fuzz/artifacts and ends it.
set -eu
cd "$(dirname "$0")/.."

version=0.13.2
if [ $# -gt 0 ]; then
    how=-max_total_time=$1
    what="for $1 s"
else
    how='-seed=1 -runs=20000'
    what='on 20000 inputs'
fi

if ! cargo fuzz --version >/dev/null 2>&1; then
    echo "fuzz: installing cargo-fuzz $version with cargo install (some minutes)"
    cargo install --locked "cargo-fuzz@$version"
fi
# What is found on the way is not for the tree: its corpus is chosen by hand.
found=$PWD/target/fuzz
export CARGO_TARGET_DIR="$found"
cargo fuzz build --sanitizer none
for target in $(cargo fuzz list); do
    echo "fuzz: $target $what"
    mkdir -p "$found/corpus/$target"
    if [ $# = 0 ]; then rm -f "$found/corpus/$target"/*; fi
    # shellcheck disable=SC2086 # a list of flags
    cargo fuzz run --sanitizer none "$target" "$found/corpus/$target" "fuzz/corpus/$target" -- \
        $how -max_len=65536 -timeout=10 -rss_limit_mb=1024 -verbosity=0 \
        -print_final_stats=1
done
