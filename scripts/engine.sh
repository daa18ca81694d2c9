#!/bin/sh
# Makes sure that a container engine answers. Does nothing where one already does; as root on
# Debian or Ubuntu it installs docker.io and starts dockerd; elsewhere it prints what to do.
set -eu

log=/var/log/dockerd.log
init_log=/var/log/docker.log
start_seconds=60

say() { printf 'engine: %s\n' "$*"; }
fail() {
    printf 'engine: error: %s\n' "$1" >&2
    shift
    for line in "$@"; do printf 'engine:   %s\n' "$line" >&2; done
    exit 1
}

# A deadline where `timeout` exists (macOS has none).
bounded() {
    seconds=$1
    shift
    if command -v timeout >/dev/null; then timeout "$seconds" "$@"; else "$@"; fi
}

# Without the docker command, the sockets that it would try.
ping_sockets() {
    command -v curl >/dev/null || return 1
    case ${DOCKER_HOST:-} in unix://*) named=${DOCKER_HOST#unix://} ;; *) named= ;; esac
    for socket in "$named" /var/run/docker.sock "${XDG_RUNTIME_DIR:-/nonexistent}/docker.sock" \
        "${HOME:-/nonexistent}/.docker/run/docker.sock"; do
        [ -S "$socket" ] || continue
        curl -fsS --max-time 5 --unix-socket "$socket" http://localhost/_ping >/dev/null 2>&1 && return
    done
    return 1
}

answers() {
    if command -v docker >/dev/null; then
        bounded 10 docker version --format '{{.Server.Version}}' >/dev/null 2>&1
    else
        ping_sockets
    fi
}

# Process $1 exists, is no zombie, and is the program $2.
runs() {
    [ -r "/proc/$1/stat" ] && [ "$(cat "/proc/$1/comm" 2>/dev/null)" = "$2" ] &&
        ! grep -q '^State:[[:space:]]*Z' "/proc/$1/status"
}

pid_in() { cat "$1" 2>/dev/null || true; }

dockerd_runs() {
    pid=$(pid_in /var/run/docker.pid)
    [ -n "$pid" ] && runs "$pid" dockerd
}

# What an engine that was killed leaves behind: dockerd refuses to start when the process id in its
# file is in use by anybody, and it waits for any containerd whose pid file or socket it finds.
remove_stale_files() {
    rm -f /var/run/docker.pid /var/run/docker-ssd.pid /var/run/docker.sock
    own=/var/run/docker/containerd
    pid=$(pid_in $own/containerd.pid)
    if [ -n "$pid" ] && ! runs "$pid" containerd; then rm -f $own/containerd.pid; fi
    for socket in /run/containerd/containerd.sock $own/containerd.sock; do
        if [ -S "$socket" ] && ! grep -q "${socket#/var}\$" /proc/net/unix; then rm -f "$socket"; fi
    done
}

mount_cgroups() {
    grep -q ' cgroup2\{0,1\} ' /proc/mounts && return
    say "mounting the cgroup file system at /sys/fs/cgroup"
    mount -t cgroup2 cgroup2 /sys/fs/cgroup ||
        fail "cgroups are not mounted and cannot be (a container without privileges?)" \
            "run this on the host, or give the container an engine: DOCKER_HOST=..."
}

install_packages() {
    packages="docker.io iptables ca-certificates"
    # With AppArmor in the kernel, dockerd needs the tool that loads its profile.
    if grep -qs Y /sys/module/apparmor/parameters/enabled; then packages="$packages apparmor"; fi
    say "installing $packages with apt-get"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    # Newer releases keep the docker command in a package of its own.
    if apt-cache show docker-cli >/dev/null 2>&1; then packages="$packages docker-cli"; fi
    # shellcheck disable=SC2086 # a list of words
    apt-get install -y -qq --no-install-recommends -o DPkg::Lock::Timeout=120 $packages >/dev/null
}

# Waits until the engine answers, or until dockerd is gone after a short time to appear in.
wait_for_answer() {
    waited=0
    while [ "$waited" -lt "$start_seconds" ]; do
        if answers; then return; fi
        if [ "$waited" -ge 5 ] && ! dockerd_runs; then return 1; fi
        sleep 1
        waited=$((waited + 1))
    done
    return 1
}

start_engine() {
    if [ -d /run/systemd/system ]; then
        say "starting docker.service"
        systemctl start docker 9>&-
        wait_for_answer
        return
    fi
    mount_cgroups
    if [ -x /etc/init.d/docker ]; then
        say "starting dockerd with its init script, log $init_log"
        if service docker start >/dev/null 2>&1 9>&- && wait_for_answer; then return; fi
        if dockerd_runs; then return 1; fi
        say "the init script failed ('service docker start' says why)"
        remove_stale_files
    fi
    say "starting dockerd in a session of its own, log $log"
    setsid dockerd >>$log 2>&1 </dev/null 9>&- &
    wait_for_answer
}

explain_failure() {
    for file in $log $init_log; do
        [ -s "$file" ] || continue
        printf '%s\n' "--- the last lines of $file" >&2
        tail -n 15 "$file" >&2
    done
    fail "dockerd does not answer" \
        "look at the log above (with systemd: journalctl -u docker -n 50)" \
        "if it speaks of iptables: update-alternatives --set iptables /usr/sbin/iptables-legacy" \
        "if dockerd still runs but hangs: kill \$(cat /var/run/docker.pid), then make engine"
}

if answers; then
    say "an engine answers; nothing to do"
    exit 0
fi

if [ -n "${DOCKER_HOST:-}" ]; then
    fail "the engine named by DOCKER_HOST=$DOCKER_HOST does not answer" "start it, or unset DOCKER_HOST"
fi
if command -v docker >/dev/null; then
    context=$(docker context show 2>/dev/null || echo default)
    if [ "$context" != default ]; then
        fail "the engine of the docker context $context does not answer" \
            "start it, or: docker context use default"
    fi
fi
if [ "$(uname -s)" != Linux ]; then
    fail "no engine answers" "start Docker Desktop (or colima start), then run this again"
fi
if [ "$(id -u)" != 0 ]; then
    fail "no engine answers this user" \
        "one that is stopped:   sudo make engine" \
        "one for root only:     sudo usermod -aG docker $(id -un), then log in again"
fi

need_install=no
if ! command -v dockerd >/dev/null; then
    need_install=yes
    command -v apt-get >/dev/null || fail "no engine answers, and this system has no apt-get" \
        "install and start Docker 20.10 or newer with the system's own tools, then run this again"
fi
if [ $need_install = yes ]; then
    say "no engine answers; this will install docker.io (about 300 MB) and start dockerd"
else
    say "no engine answers; this will start the installed dockerd"
fi

# One at a time: a second call waits here, and then finds the engine running.
exec 9>/var/lock/agent-run-engine.lock
if command -v flock >/dev/null; then flock 9; fi
if answers; then
    say "another call has started it"
    exit 0
fi
if [ $need_install = yes ]; then install_packages; fi
if dockerd_runs; then
    say "dockerd already runs (process $(pid_in /var/run/docker.pid)); waiting for it"
    wait_for_answer || explain_failure
elif ! answers; then
    remove_stale_files
    start_engine || explain_failure
fi
say "the engine answers"
