#!/bin/sh
# Makes every comparison of benches/bench, or those of `--only NAME,…`, and writes what it measured to
# docs/benchmarks.md. Wants a machine that does nothing else meanwhile, git, flock, xargs and script, and 8 GiB free in /dev/shm.
set -eu
cd "$(dirname "$0")/.."

for tool in flock:util-linux git:git script:bsdutils xargs:findutils; do
    command -v "${tool%:*}" >/dev/null || {
        printf 'bench: error: %s is missing; install it (apt-get install %s)\n' "${tool%:*}" "${tool#*:}" >&2
        exit 1
    }
done
echo "bench: this builds agent-run and then measures for about twenty minutes"
exec cargo bench --locked --bench bench -- --write "$@"
