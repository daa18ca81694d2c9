#!/bin/sh
# Formatting, clippy, documentation, shell scripts, dependencies. The first fault ends it.
set -eu
cd "$(dirname "$0")/.."

step() { printf 'lint: %s\n' "$*"; }

need_shellcheck() {
    if command -v shellcheck >/dev/null; then return; fi
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        printf 'lint: error: shellcheck is missing; install it (apt-get install shellcheck)\n' >&2
        exit 1
    fi
    step "installing shellcheck with apt-get"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
        -o DPkg::Lock::Timeout=120 shellcheck >/dev/null
}

step "cargo fmt --check"
cargo fmt --check
step "cargo clippy"
cargo clippy --locked --all-targets -- -D warnings
step "fuzz/Cargo.lock follows Cargo.lock"
cargo metadata --locked --format-version 1 --manifest-path fuzz/Cargo.toml >/dev/null
step "cargo doc"
RUSTDOCFLAGS='-D warnings' cargo doc --locked --no-deps --document-private-items
step "shellcheck"
need_shellcheck
# Every tracked file whose first line says that it is a shell script.
git ls-files -z | xargs -0 awk 'FNR == 1 && /^#!.*[\/ ](ba|da)?sh( |$)/ { print FILENAME } { nextfile }' |
    xargs shellcheck
step "cargo deny"
scripts/deny.sh
step "all good"
