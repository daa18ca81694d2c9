#!/bin/sh
# Makes sure that agent-run's own images exist: agent-run-base and agent-run-egress-proxy, with the
# version of Cargo.toml, built from the Dockerfiles in images/; and those that the templates of services
# name, which the tests run: where there is none of that name, it is built from the distribution's packages,
# with --all the large ones too. All stand on debian:bookworm-slim; where no registry gives it, it is
# bootstrapped here from the distribution's packages (root only).
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' "$root/Cargo.toml" | head -n 1)
below=debian:bookworm-slim
release=bookworm
pull_seconds=120
# The label says which Dockerfile an image was built from.
label=agent-run-image.dockerfile

say() { printf 'image: %s\n' "$*"; }
fail() {
    printf 'image: error: %s\n' "$1" >&2
    shift
    for line in "$@"; do printf 'image:   %s\n' "$line" >&2; done
    exit 1
}
bounded() {
    seconds=$1
    shift
    if command -v timeout >/dev/null; then timeout "$seconds" "$@"; else "$@"; fi
}
digest_of() { git hash-object --no-filters "$1"; }
exists() { docker image inspect "$1" >/dev/null 2>&1; }

need_debootstrap() {
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        fail "no registry gives $below, and only root on Debian or Ubuntu can bootstrap it" \
            "either make a registry reachable: docker pull $below" \
            "or: sudo make image" \
            "or bring it from a machine that has it: docker save $below | ssh THIS docker load"
    fi
    say "bootstrapping $below from the distribution's packages (about a minute, 110 MB)"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends -o DPkg::Lock::Timeout=120 \
        debootstrap debian-archive-keyring >/dev/null
}

# Address, suite and component of the host's own Debian package lists, for the image's release.
host_lists() (
    # shellcheck source=/dev/null
    . /etc/os-release
    [ "$ID" = debian ] || return 0
    # shellcheck disable=SC2016 # apt's own placeholders
    apt-get indextargets --format '$(REPO_URI) $(CODENAME) $(COMPONENT)' 'Identifier: Packages' |
        grep -E " $VERSION_CODENAME(-updates|-security)? main\$" |
        sed "s/ $VERSION_CODENAME/ $release/" | sort -u || true
)

# The host's way to the packages, so that apt-get works in builds and containers as it does here.
# Nothing that holds a password goes into the image: tasks could read it there.
copy_host_settings() {
    tree=$1
    if [ -n "$(host_lists)" ]; then
        host_lists | grep -v '://[^/]*@' | sed 's/^/deb /' >"$tree/etc/apt/sources.list"
    fi
    apt-config dump | grep -E '^Acquire::(https?|Check-)[^ ]* "[^"]' |
        grep -v '://[^/]*@' >"$tree/etc/apt/apt.conf.d/80host" || true
    for file in /usr/local/share/ca-certificates/*.crt; do
        if [ -f "$file" ]; then cp "$file" "$tree/usr/local/share/ca-certificates/"; fi
    done
    chroot "$tree" update-ca-certificates >/dev/null 2>&1
}

# What the official slim image leaves out, now and for packages installed later.
make_slim() {
    tree=$1
    mkdir -p "$tree/etc/dpkg/dpkg.cfg.d"
    for folder in doc groff info linda lintian locale man; do
        rm -rf "${tree:?}/usr/share/$folder"
        echo "path-exclude /usr/share/$folder/*"
    done >"$tree/etc/dpkg/dpkg.cfg.d/slim"
    echo "path-include /usr/share/doc/*/copyright" >>"$tree/etc/dpkg/dpkg.cfg.d/slim"
    cat >"$tree/etc/apt/apt.conf.d/90slim" <<'APT'
APT::Install-Recommends "false";
Acquire::Languages "none";
Acquire::GzipIndexes "true";
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
DPkg::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb /var/cache/apt/*.bin || true"; };
APT
    find "$tree/var/lib/apt/lists" "$tree/var/cache" "$tree/var/log" -type f -delete
    rm -f "$tree/etc/resolv.conf" "$tree/etc/hostname"
}

bootstrap() {
    need_debootstrap
    work=$(mktemp -d /var/tmp/agent-run-base.XXXXXX)
    trap 'rm -rf --one-file-system "$work"' EXIT
    trap 'exit 130' INT TERM
    mirror=$(host_lists | sed -n "s/ $release main\$//p" | head -n 1)
    # shellcheck disable=SC2086 # no mirror known: none named, debootstrap has its own
    debootstrap --variant=minbase --include=ca-certificates \
        --keyring=/usr/share/keyrings/debian-archive-keyring.gpg \
        $release "$work/tree" $mirror >"$work/log" 2>&1 ||
        { tail -n 20 "$work/log" >&2; fail "debootstrap failed"; }
    copy_host_settings "$work/tree"
    make_slim "$work/tree"
    tar -C "$work/tree" --numeric-owner --exclude='./dev/*' -c . |
        docker import --change 'CMD ["bash"]' - "$below" >/dev/null
}

command -v docker >/dev/null || fail "the docker command is missing" \
    "install it: apt-get install docker-cli (or docker.io), or Docker's own packages"

# make_sure NAME IMAGE: an image of images/NAME/Dockerfile; one that somebody else gave the name stays.
make_sure() {
    name=$1
    image=$2
    dockerfile=$root/images/$name/Dockerfile
    digest=$(digest_of "$dockerfile")
    built_from=$(docker image inspect --format "{{index .Config.Labels \"$label\"}}" "$image" 2>/dev/null || true)
    if [ "$built_from" = "$digest" ]; then
        say "$image is there; nothing to do"
        return
    fi
    if [ "${name#services/}" != "$name" ] && [ -z "$built_from" ] && exists "$image"; then
        say "$image is there, from elsewhere; nothing to do"
        return
    fi
    say "this will build $image from images/$name/Dockerfile, on $below"
    if ! exists "$below"; then
        say "pulling $below"
        if ! bounded $pull_seconds docker pull -q "$below"; then
            say "no registry gives it"
            bootstrap
        fi
    fi
    docker build -q --label "$label=$digest" -t "$image" - <"$dockerfile"
    say "$image is built"
}

make_sure base "agent-run-base:$version"
make_sure egress-proxy "agent-run-egress-proxy:$version"
make_sure services/mail "agent-run-mail:$version"
make_sure services/postgres postgres:15
make_sure services/redis redis:7
if [ "${1:-}" = --all ]; then
    make_sure services/mariadb mariadb:10.11
    make_sure services/rabbitmq rabbitmq:3
fi
