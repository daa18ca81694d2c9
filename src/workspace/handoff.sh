#!/bin/sh
# Hands the work of /workspace off: /agent/out/result.bundle and, last, /agent/out/status.
# The result is HEAD; what is uncommitted becomes one commit on top of it. Run by the wrapper, and
# again by the collector where the wrapper could not. POSIX sh. It changes no branch and no file
# of the agent's, so that it can be run any number of times.
set -u
umask 022
root=${AGENT_ROOT:-}
git_dir=$root/agent/git
out=$root/agent/out
base=$AGENT_BASE
limit=${AGENT_LEFTOVERS_LIMIT:-104857600}
work=$out/.handoff
bundle=$work/result.bundle
status=$work/status

# An agent may have taken the rights from its own directories.
chmod u+rwx "$out" "$git_dir" "$root/workspace"
rm -rf "$work" "$out/status" "$out/result.bundle"
mkdir -p "$work" || exit 1
echo "format=1" >"$status"
say() { echo "$1" >>"$status"; }

g() {
    git --git-dir="$git_dir" --work-tree="$root/workspace" -c core.hooksPath=/dev/null \
        -c core.fsmonitor=false -c core.bare=false -c gc.auto=0 -c maintenance.auto=false \
        -c advice.addEmbeddedRepo=false -c submodule.recurse=false "$@"
}
commit_of() { g rev-parse -q --verify "$1^{commit}"; }

# A broken git directory is replaced by a fresh one, so that at least the files come back.
rm -f "$git_dir"/*.lock
rm -rf "$git_dir/refs/agent-run/out"
if ! commit_of "$base" >/dev/null || ! g update-ref refs/agent-run/out/head "$base"; then
    shallow=$git_dir/shallow
    git_dir=$work/git
    git init -q --bare --template= "$git_dir" || exit 1
    echo "$root/agent/base/objects" >"$git_dir/objects/info/alternates"
    [ ! -f "$shallow" ] || cp "$shallow" "$git_dir/shallow"
    g update-ref HEAD "$base" || exit 1
    say rebuilt=1
fi
for ref in $(g for-each-ref --format='%(refname)' refs/agent-run/out); do
    g update-ref -d "$ref"
done

head=$(commit_of HEAD) || head=$base
tip=$head

# In the middle of a rebase HEAD is detached: the branch's own tip is the result.
progress=
for state in rebase-merge rebase-apply; do
    [ -f "$git_dir/$state/head-name" ] || continue
    progress=rebase
    tip=$(commit_of "$(head -n 1 "$git_dir/$state/head-name")") \
        || tip=$(commit_of "$(head -n 1 "$git_dir/$state/orig-head")") || tip=$head
done
for state in MERGE_HEAD CHERRY_PICK_HEAD REVERT_HEAD; do
    if [ -f "$git_dir/$state" ] && [ -z "$progress" ]; then progress=$state; fi
done

# Uncommitted work, through an index of our own. The agent's keeps what was added with --force.
export GIT_INDEX_FILE="$work/index"
if ! cp "$git_dir/index" "$GIT_INDEX_FILE" || ! g ls-files >/dev/null; then
    rm -f "$GIT_INDEX_FILE"
    g read-tree "$head"
fi
left=
size=0
for bytes in $(g ls-files -z --others --modified --exclude-standard | (cd "$root/workspace" && xargs -0 stat -c %s --)); do
    size=$((size + bytes))
done
if [ "$size" -gt "$limit" ]; then
    say "leftovers=too-large"
    say "leftover_bytes=$size"
else
    # An empty nested repository cannot be added; what can be is. A directory that cannot be read, or
    # whose path is too long, is a mere warning to git.
    said=$( (cd "$root/workspace" && LC_ALL=C g add -A --ignore-errors .) 2>&1) && complete=1 || complete=
    echo "$said"
    case $said in *"warning: could not open directory"*) complete= ;; esac
    [ -n "$complete" ] || say "leftovers_incomplete=1"
    tree=$(g write-tree)
    if [ -n "$tree" ] && [ "$tree" != "$(g rev-parse -q --verify "$head^{tree}")" ]; then
        left=$(g commit-tree "$tree" -p "$head" -m "Uncommitted work of ${AGENT_TASK:-the task}

Committed by agent-run: the task ended without committing these changes.") || left=
        if [ -n "$left" ]; then say "leftovers=committed"; else say "leftovers=failed"; fi
    fi
fi
unset GIT_INDEX_FILE

count=0
refs=
side() { # commit, what it is
    [ "$count" -lt 17 ] || return 0
    g update-ref "refs/agent-run/out/side/$count" "$1" || return 0
    refs="$refs refs/agent-run/out/side/$count"
    say "side.$count=$2"
    count=$((count + 1))
}

if [ -n "$progress" ]; then
    side "${left:-$head}" "in-progress $progress"
elif [ -n "$left" ]; then
    tip=$left
fi
moved=$(g for-each-ref --count=16 --no-merged="$tip" \
    --format='%(objectname) %(refname)' refs/heads)
while read -r commit name; do
    [ -z "$commit" ] || side "$commit" "branch ${name#refs/heads/}"
done <<END
$moved
END

say "head=$tip"
if [ "$tip" = "$base" ] && [ -z "$refs" ]; then
    say "changed=0"
else
    say "changed=1"
    if g update-ref refs/agent-run/out/head "$tip"; then
        # Where HEAD is the base or older, there is nothing of it to send.
        if g merge-base --is-ancestor "$tip" "$base"; then head_ref=; else head_ref=refs/agent-run/out/head; fi
        # shellcheck disable=SC2086 # the list of refs is ours
        if [ -n "$head_ref$refs" ] && g bundle create -q "$bundle" $head_ref $refs "^$base"; then
            mv "$bundle" "$out/result.bundle"
            say "bundle=1"
        fi
    fi
fi
mv "$status" "$out/status"
rm -rf "$work"
