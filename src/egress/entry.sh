#!/bin/bash
# The main process of the proxy's container: starts its programs, tries whether the lists hold, and
# ends as soon as one of them does, or when its time is over.
set -u

# Each connection takes four.
ulimit -n "$(ulimit -Hn)"
mkdir -p /egress/forward
# Not over the files: tasks of before may run them.
cp --remove-destination /usr/lib/agent-run/forward/* /agent/proxy/forward.cfg /egress/forward/ || exit 1

dnsmasq --keep-in-foreground --conf-file=/agent/proxy/dnsmasq.conf &
squid -N -f /agent/proxy/squid.conf &
haproxy -db -f /agent/proxy/haproxy.cfg &
sleep "${AGENT_DEADLINE:-86400}" &
trap 'exit 143' TERM INT
# Of the whole group: all of them end with it.
trap 'kill $(jobs -p); wait' EXIT

perl /agent/proxy/trial.pl "$@" || exit 1
wait -n
