#!/bin/sh
# The main process of a task's container: runs the command given as arguments, ends it in time,
# hands the work off, and exits with the command's code. POSIX sh: dash, bash, busybox ash.
#
# It must not be process 1 (the engine's init is): `kill -1` reaches all but process 1 and us.
set -u
root=${AGENT_ROOT:-}

# The shell's own words ("Killed", "Terminated") do not belong in the agent's log.
exec 3>&2 2>/dev/null

for name in ${AGENT_SECRETS:-}; do
    IFS= read -r value || exit 125
    # printf is part of the shell: the value is in no argument list.
    (umask 0377 && printf '%s' "$value" | base64 -d >"$root/run/secrets/$name") || exit 125
done
unset value
exec </dev/null

# Under an allow-list the way out is a socket: what carries connections there brings its own loader
# and libraries, and returns once it listens. The proxy puts it there, the configuration last, and says
# when it has shown that it holds. Not every `sleep` knows fractions.
forward=$root/agent/forward
until_there() {
    until [ -e "$forward/$1" ]; do sleep 0.02 || sleep 1; done
}
if [ -d "$forward" ]; then
    until_there forward.cfg
    "$forward/ld.so" --library-path "$forward" "$forward/haproxy" -D -q -f "$forward/forward.cfg" || {
        echo "agent-run: the way to the egress proxy cannot be opened" >&3
        exit 125
    }
    until_there holds
fi

agent=
stop=
interrupted=
# Children that run in the background ignore INT: whatever comes in, TERM goes on.
stop_agent() {
    kill -s TERM -- -1
    (trap '' TERM INT HUP; exec 3>&- >/dev/null; sleep "${AGENT_GRACE:-10}"; kill -s KILL "$agent") &
}
# shellcheck disable=SC2317 # called by the trap
on_signal() {
    interrupted=1
    [ -z "$stop" ] || return 0
    stop=1
    [ -z "$agent" ] || stop_agent
}
trap on_signal TERM INT HUP

# 3 is closed for the command, so that 2 is the only way to the log.
"$@" 2>&3 3>&- &
agent=$!
(trap '' TERM INT HUP; exec 3>&- >/dev/null; sleep "${AGENT_DEADLINE:-86400}"; kill -s TERM $$) &

[ -z "$stop" ] || stop_agent
while :; do
    interrupted=
    wait "$agent"
    code=$?
    # `wait` says 143 both for "interrupted" and for "died of TERM".
    [ -n "$interrupted" ] || break
    if ! kill -0 "$agent"; then
        # bash may have reaped it meanwhile and knows the code; dash has given it already.
        wait "$agent"
        again=$?
        [ "$again" -eq 127 ] || code=$again
        break
    fi
done

# Nobody writes while the work is handed off.
trap '' TERM INT HUP
kill -s KILL -- -1
# Of a check nothing is.
[ -f "$root/agent/handoff" ] || exit "$code"

# In this shell's own copy, which spares a program.
# shellcheck source=src/workspace/handoff.sh
(. "$root/agent/handoff") >"$root/agent/out/handoff.log" 2>&1 3>&- &
handoff=$!
(exec 3>&- >/dev/null; sleep "${AGENT_HANDOFF:-20}"; kill -s KILL "$handoff") &
wait "$handoff"
exit "$code"
