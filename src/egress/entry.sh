#!/bin/bash
# The main process of the proxy's container: starts its programs, tries whether the lists hold, and
# ends as soon as one of them does, or when its time is over. Tasks that have started meanwhile wait for
# the file `holds`.
set -u

# Each connection takes four.
ulimit -n "$(ulimit -Hn)"
dnsmasq --keep-in-foreground --conf-file=/agent/proxy/dnsmasq.conf &
squid -N -f /agent/proxy/squid.conf &
haproxy -db -f /agent/proxy/haproxy.cfg &
sleep "${AGENT_DEADLINE:-86400}" &
# What was asked for before this last question is written down before it: then nothing is waited for.
trap 'perl /agent/proxy/trial.pl; exit 143' TERM INT
trap 'kill -KILL $(jobs -p)' EXIT

mkdir -p /egress/forward
rm -f /egress/forward/holds
# Not over the files: tasks of before may run them.
cp --remove-destination /usr/lib/agent-run/forward/* /agent/proxy/forward.cfg /egress/forward/ || exit 1
perl /agent/proxy/trial.pl "$@" || exit 1
wait -n
