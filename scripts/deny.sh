#!/bin/sh
# Checks the dependencies against deny.toml. The advisory database is a git repository on the
# internet: where it cannot be fetched, the other checks still run and one line says what did not.
set -eu
cd "$(dirname "$0")/.."

version=0.20.2
fetch_seconds=60

if ! cargo deny --version >/dev/null 2>&1; then
    echo "deny: installing cargo-deny $version with cargo install (some minutes)"
    cargo install --locked "cargo-deny@$version"
fi
cargo deny --locked check bans licenses sources

if command -v timeout >/dev/null; then bound="timeout $fetch_seconds"; else bound=; fi
if $bound cargo deny fetch db >/dev/null 2>&1; then
    cargo deny --locked check --disable-fetch advisories
else
    echo "deny: NOTICE: advisories were NOT checked: the advisory database cannot be fetched here"
fi
