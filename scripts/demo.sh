#!/bin/sh
# Runs examples/demo/agent-run.yaml on a clone of this repository below .demo, and shows what came
# back. The clone is made anew each time; this repository itself stays as it is.
set -eu
cd "$(dirname "$0")/.."

demo=$PWD/.demo
repo=$demo/repo
say() { printf 'demo: %s\n' "$*"; }

say "this will build agent-run (some minutes the first time), clone this repository to .demo/repo, and run five tasks on the clone"
cargo build --release --locked
rm -rf "$demo"
mkdir -p "$demo"
# HEAD as it is committed; uncommitted changes are not part of the demo.
git clone --quiet --no-hardlinks . "$repo"
base=$(git -C "$repo" rev-parse HEAD)

spec=$repo/examples/demo/agent-run.yaml
say "agent-run run $spec --state-dir $demo/state"
status=0
"${CARGO_TARGET_DIR:-target}/release/agent-run" run "$spec" --state-dir "$demo/state" || status=$?

printf '\n'
branches=$(git -C "$repo" for-each-ref --format='%(refname:short)' refs/heads/agent/)
if [ -z "$branches" ]; then
    say "no branch came back"
    exit $((status > 0 ? status : 1))
fi
for branch in $branches; do
    say "$branch"
    git -C "$repo" --no-pager log --reverse --format='  %h %s (%an)' "$base..$branch"
    git -C "$repo" --no-pager diff --stat=90 "$base" "$branch"
done

cat <<NEXT

What to type next:
  cd $repo
NEXT
for branch in $branches; do
    printf '  git diff HEAD...%s\n' "$branch"
done
printf '  git merge %s\n' "${branches%%
*}"
exit $status
