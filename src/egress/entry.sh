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

rm -f /egress/forward/holds
# Whole files only: tasks of before may run them, or be about to.
(
    mkdir -p /egress/forward/new && cd /egress/forward || exit
    cp /usr/lib/agent-run/forward/* new && mv -f new/* . || exit
    cp /agent/proxy/forward.cfg new && mv -f new/forward.cfg .
) || exit
perl /agent/proxy/trial.pl "$@" || exit 1
wait -n
