#!/bin/sh
# Hands the work of /workspace off: /agent/out/result.bundle and, last, /agent/out/status.
# The result is HEAD; what is uncommitted becomes one commit on top of it. Run by the wrapper, and
# again by the collector where the wrapper could not. POSIX sh. It changes no branch and no file
# of the agent's, so that it can be run any number of times.
set -u
umask 022
# What git says is read below, and the agent's index stays as it is.
export LC_ALL=C GIT_OPTIONAL_LOCKS=0
root=${AGENT_ROOT:-}
git_dir=$root/agent/git
out=$root/agent/out
base=$AGENT_BASE
limit=$AGENT_LEFTOVERS_LIMIT
work=$out/.handoff
bundle=$work/result.bundle
status=$work/status

# An agent may have taken the rights from its own directories.
chmod u+rwx "$out" "$git_dir" "$root/workspace"
for old in "$work" "$out/status" "$out/result.bundle" "$git_dir"/*.lock; do
    if [ -e "$old" ] || [ -L "$old" ]; then rm -rf "$old"; fi
done
# A git directory of our own: the refs of the bundle are in it.
mkdir -p "$work/git/objects/info" "$work/git/refs" || exit 1
echo "$base" >"$work/git/HEAD"
[ ! -f "$git_dir/shallow" ] || cp "$git_dir/shallow" "$work/git/shallow"
echo "format=1" >"$status"
say() { printf '%s\n' "$1" >>"$status"; }

g() {
    git --git-dir="$git_dir" --work-tree="$root/workspace" -c core.hooksPath=/dev/null \
        -c core.fsmonitor=false -c core.bare=false -c gc.auto=0 -c maintenance.auto=false \
        -c advice.addEmbeddedRepo=false -c submodule.recurse=false "$@"
}
commit_of() { g rev-parse -q --verify "$1^{commit}"; }

# Branches that are not in the base. Without it the git directory is broken: ours replaces it, so
# that at least the files come back.
if ! beyond=$(g for-each-ref --count=2 --no-merged="$base" --format='%(objectname)' refs/heads); then
    git_dir=$work/git
    for objects in "$root/agent/base/objects" "$root/agent/base/start/objects"; do
        [ ! -d "$objects" ] || echo "$objects" >>"$git_dir/objects/info/alternates"
    done
    commit_of "$base" >/dev/null || exit 1
    say rebuilt=1
fi

# HEAD, and whether the files and the index are as it has them.
head=
clean=1
g status --porcelain=v2 --branch --untracked-files=normal --ignore-submodules=none --no-renames \
    >"$work/seen" 2>&1 || clean=
while IFS= read -r line; do
    case $line in
        "# branch.oid (initial)") clean= ;;
        "# branch.oid "*) head=${line#"# branch.oid "} ;;
        "# "*) ;;
        *) clean= && break ;;
    esac
done <"$work/seen"
[ -n "$head" ] || head=$(commit_of HEAD) || head=$base
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

# The submodules that were there at the start: commit, git directory and path of each.
list=$root/agent/submodules
[ -f "$list" ] || list=/dev/null

# What is changed in a submodule, or committed there, is in no commit of ours: it is only told.
# A path is quoted by git or checked by the runner; the count is bounded, a few stand for all.
shown=0
tell() {
    [ "$shown" -lt 40 ] || return 0
    shown=$((shown + 1))
    say "submodule=$1"
}
left=
if [ -z "$clean" ]; then
    # Uncommitted work, through an index of our own. The agent's keeps what was added with --force.
    export GIT_INDEX_FILE="$work/index"
    if ! cp "$git_dir/index" "$GIT_INDEX_FILE" || ! g ls-files >/dev/null; then
        rm -f "$GIT_INDEX_FILE"
        g read-tree "$head"
    fi
    size=0
    for bytes in $(g ls-files -z --others --modified --exclude-standard | (cd "$root/workspace" && xargs -0 stat -c %s --)); do
        size=$((size + bytes))
    done
    if [ "$size" -gt "$limit" ]; then
        say "leftovers=too-large"
        say "leftover_bytes=$size"
    else
        # An empty nested repository cannot be added; what can be is. Over a broken one git gives up. A
        # directory that cannot be read, or whose path is too long, is a mere warning to git.
        add() {
            said=$( (cd "$root/workspace" && g add -A --ignore-errors "$@") 2>&1) && added=1 || added=
            echo "$said"
            case $said in *"warning: could not open directory"*) say "leftovers_incomplete=1" ;; esac
            [ -n "$added" ]
        }
        if ! add .; then
            say "leftovers_incomplete=1"
            g ls-files --stage -z | tr '\0' '\n' | grep '^160000 ' | cut -f 2- >"$work/gitlinks"
            set -- .
            while IFS= read -r path; do
                set -- "$@" ":(exclude,literal)$path"
            done <"$work/gitlinks"
            add "$@"
        fi
        # A submodule that was not moved does not undo what a commit says of it.
        while IFS= read -r commit && IFS= read -r dir && IFS= read -r path; do
            dir=$root/agent/git/$dir
            [ "$(git --git-dir="$dir" --work-tree="$dir" rev-parse HEAD)" = "$commit" ] || continue
            entry=$(g --literal-pathspecs ls-tree "$head" -- "$path")
            id=${entry#160000 commit }
            [ "$id" = "$entry" ] || g update-index --cacheinfo "160000,${id%%[!0-9a-f]*},$path"
        done <"$list"
        tree=$(g write-tree)
        if [ -n "$tree" ] && [ "$tree" != "$(g rev-parse -q --verify "$head^{tree}")" ]; then
            left=$(g commit-tree "$tree" -p "$head" -m "Uncommitted work of ${AGENT_TASK:-the task}

Committed by agent-run: the task ended without committing these changes.") || left=
            if [ -n "$left" ]; then say "leftovers=committed"; else say "leftovers=failed"; fi
        fi
    fi
    if g ls-files --stage | grep -q '^160000 '; then
        g -c core.quotePath=true status --porcelain=v2 --no-renames \
            --untracked-files=normal --ignore-submodules=none >"$work/modified" || say "submodules_unknown=1"
        while read -r kind _ sub _ _ _ _ _ path; do
            case "$kind $sub" in "1 S"?M? | "1 S"??U) tell "$(printf '%.500s' "$path")" ;; esac
        done <"$work/modified"
    fi
    unset GIT_INDEX_FILE
fi
while IFS= read -r commit && IFS= read -r dir && IFS= read -r path; do
    sub=$root/workspace/$path
    dir=$root/agent/git/$dir
    if [ -f "$sub/.git" ] || [ -d "$dir" ]; then
        # What came from elsewhere is there again.
        new=$(git --git-dir="$dir" --work-tree="$dir" rev-list -n 1 \
            --exclude='refs/remotes/*' --all --not "$commit" --remotes) || new=unknown
        [ -z "$new" ] || tell "$path"
    fi
    # Files without a gitfile, unless the result has them as its own.
    if [ -f "$sub/.git" ] || [ -z "$(ls -A "$sub")" ]; then continue; fi
    case $(g --literal-pathspecs ls-tree "${left:-$head}" -- "$path") in
        "040000 "*) ;;
        *) tell "$path" ;;
    esac
done <"$list"

count=0
refs=
side() { # commit, what it is
    [ "$count" -lt 17 ] || return 0
    echo "$1 refs/agent-run/out/side/$count" >>"$work/git/packed-refs"
    refs="$refs refs/agent-run/out/side/$count"
    say "side.$count=$2"
    count=$((count + 1))
}

if [ -n "$progress" ]; then
    side "${left:-$head}" "in-progress $progress"
elif [ -n "$left" ]; then
    tip=$left
fi
moved=
case $beyond in
    "" | "$tip") ;;
    # One more than are taken, to know whether there are more.
    *) moved=$(g for-each-ref --count=17 --no-merged="$tip" \
        --format='%(objectname) %(refname)' refs/heads) ;;
esac
taken=0
while read -r commit name; do
    [ -n "$commit" ] || continue
    taken=$((taken + 1))
    if [ "$taken" -gt 16 ]; then
        say "branches_incomplete=1"
        break
    fi
    side "$commit" "branch ${name#refs/heads/}"
done <<END
$moved
END

say "head=$tip"
made=
if [ "$tip" = "$base" ] && [ -z "$refs" ]; then
    say "changed=0"
else
    say "changed=1"
    # Of a HEAD that is the base or older there is nothing to send: git leaves it out. The objects
    # are the agent's, its configuration stays out of this.
    echo "$tip refs/agent-run/out/head" >>"$work/git/packed-refs"
    # shellcheck disable=SC2086 # the list of refs is ours
    if said=$(GIT_OBJECT_DIRECTORY=$git_dir/objects git --git-dir="$work/git" bundle create -q "$bundle" \
        refs/agent-run/out/head $refs "^$base" 2>&1); then
        say "bundle=1"
        made=$bundle
    elif ! g merge-base --is-ancestor "$tip" "$base"; then
        say "bundle_failed=$(printf '%.300s' "$(echo "$said" | tr '\n' ' ')")"
    fi
    echo "$said"
fi
mv ${made:+"$made"} "$status" "$out"
rm -rf "$work"
