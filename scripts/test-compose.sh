#!/usr/bin/env bash
# Starts the compose file with a real container engine: three healthy services on one volume,
# writes and reads, a snapshot, each companion killed and back, a restart that keeps the data.
#
# Uses the engine that runs, if there is one; else starts its own, as root, with folders, a
# socket and name spaces for network and mounts of its own, so that no bridge, firewall rule or
# mount of it is seen outside or stays. What is made is removed at the end; the base file system
# of the image is kept beside the build output.
set -euo pipefail
cd "$(dirname "$0")/.."
: "${CARGO_TARGET_DIR:?set by the Makefile: run make test}"

project=redrock-test-$$
export REDROCK_IMAGE=$project:latest
base=redrock-base:bookworm
archive=$CARGO_TARGET_DIR/images/bookworm.tar
work=$(mktemp -d)
engine_pid=
composed=no
imported=no

say() { printf 'compose: %s\n' "$1"; }
fail() {
    printf 'compose: FAILED: %s\n' "$1" >&2
    exit 1
}
compose() {
    COMPOSE_PROJECT_NAME=$project docker-compose --file deploy/docker-compose.yml "$@"
}
cli() { redis-cli -h 127.0.0.1 -p "$REDROCK_PORT" "$@"; }

clean_up() {
    local code=$?
    if [ "$composed" = yes ]; then
        [ "$code" -eq 0 ] || compose logs --no-color --tail=50 || true
        compose down --volumes --timeout 20 >/dev/null 2>&1 || true
        docker image rm --force "$REDROCK_IMAGE" >/dev/null 2>&1 || true
    fi
    [ "$imported" = no ] || docker image rm --force "$base" >/dev/null 2>&1 || true
    stop_engine
    rm -rf "$work"
    exit "$code"
}

stop_engine() {
    [ -n "$engine_pid" ] || return 0
    kill "$engine_pid" 2>/dev/null || true
    for _ in $(seq 100); do
        kill -0 "$engine_pid" 2>/dev/null || break
        sleep 0.2
    done
}

# Fails if the engine does not answer.
start_engine() {
    dockerd --data-root "$work/data" --exec-root "$work/exec" --pidfile "$work/dockerd.pid" \
        --host "unix://$work/docker.sock" >"$work/dockerd.log" 2>&1 &
    engine_pid=$!
    for _ in $(seq 150); do
        ! docker info >/dev/null 2>&1 || return 0
        kill -0 "$engine_pid" 2>/dev/null || break
        sleep 0.2
    done
    stop_engine
    engine_pid=
    return 1
}

# Starts this script again where an engine of its own may do as it likes.
enter_sandbox() {
    if [ "$(id -u)" -ne 0 ]; then
        say "SKIPPED: no container engine runs and only root may start one"
        exit 0
    fi
    # The one other reason to skip: a sandbox that forbids what every container needs.
    if ! unshare --net --mount --pid --fork true; then
        say "SKIPPED: this machine forbids name spaces (see above), so no container can run here"
        exit 0
    fi
    make_archive
    rm -rf "$work"
    trap - EXIT
    REDROCK_OWN_ENGINE=yes exec unshare --net --mount -- "$0"
}

ensure_engine() {
    if [ "${REDROCK_OWN_ENGINE:-no}" = no ]; then
        docker info >/dev/null 2>&1 || enter_sandbox
        return 0
    fi
    ip link set lo up
    export DOCKER_HOST=unix://$work/docker.sock
    start_engine || { cat "$work/dockerd.log"; fail "dockerd does not start; its log is above"; }
}

# The file system to build upon comes from Debian's archive, not from an image registry.
make_archive() {
    [ ! -e "$archive" ] || return 0
    [ "$(id -u)" -eq 0 ] || { say "SKIPPED: only root can make $archive"; exit 0; }
    say "making the base file system (once)"
    mkdir -p "$(dirname "$archive")"
    debootstrap --variant=minbase bookworm "$work/base" >"$work/debootstrap.log" 2>&1 ||
        { tail -20 "$work/debootstrap.log"; fail "debootstrap"; }
    rm -rf "$work"/base/var/cache/apt/*.bin "$work"/base/var/cache/apt/archives/*.deb \
        "$work"/base/var/lib/apt/lists/* "$work"/base/usr/share/{doc,man,locale}
    tar --create --file "$archive.new" --directory "$work/base" .
    mv "$archive.new" "$archive"
    rm -rf "$work/base"
}

ensure_base() {
    docker image inspect "$base" >/dev/null 2>&1 && return 0
    make_archive
    docker import "$archive" "$base" >/dev/null
    imported=yes
}

free_port() {
    local port
    for port in $(shuf -i 20000-32000 -n 50); do
        if ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
            printf '%s\n' "$port"
            return
        fi
    done
    fail "no free port"
}

# wait_for SECONDS WHAT COMMAND...: until the command succeeds.
wait_for() {
    local deadline=$((SECONDS + $1)) what=$2
    shift 2
    until "$@"; do
        [ "$SECONDS" -lt "$deadline" ] || fail "waited too long for $what"
        sleep 0.3
    done
}

healthy() {
    [ "$(docker inspect --format '{{.State.Health.Status}}' "$(compose ps --quiet "$1")" 2>/dev/null)" = healthy ]
}
all_healthy() { healthy server && healthy persist && healthy replica; }
answers() { [ "$(cli ping 2>/dev/null)" = PONG ]; }
expect() {
    local want=$1 got
    shift
    got=$(cli "$@")
    [ "$got" = "$want" ] || fail "$*: wanted '$want', got '$got'"
}
saved_since() { [ "$(cli lastsave)" -gt "$1" ]; }

trap clean_up EXIT
for program in docker docker-compose redis-cli; do
    if ! command -v "$program" >/dev/null; then
        say "$program is missing: scripts/install-deps.sh compose installs it"
        scripts/install-deps.sh compose || fail "install the container engine"
        break
    fi
done
ensure_engine
say "engine $(docker version --format '{{.Server.Version}}')"
ensure_base
BASE=$base scripts/build-image.sh "$REDROCK_IMAGE" >"$work/build.log" 2>&1 || { cat "$work/build.log"; fail "build the image"; }
REDROCK_PORT=$(free_port)
export REDROCK_PORT

composed=yes
compose up --detach >"$work/up.log" 2>&1 || { cat "$work/up.log"; fail "compose up"; }
wait_for 60 "an answer" answers
wait_for 60 "three healthy services" all_healthy
say "three services are healthy"

expect OK set greeting hello
expect hello get greeting
for number in $(seq 200); do printf 'SET key:%s value:%s\r\n' "$number" "$number"; done | cli >/dev/null
expect 201 dbsize
compose exec -T server redrockctl --dir /data snapshot >"$work/snapshot.log" 2>&1 ||
    { cat "$work/snapshot.log"; fail "redrockctl snapshot"; }
compose exec -T server test -s /data/dump.rdb || fail "no dump.rdb"
before=$(cli lastsave)
sleep 1.1 # LASTSAVE counts seconds
[ "$(cli bgsave)" = "Background saving started" ] || fail "BGSAVE was refused"
wait_for 60 "BGSAVE" saved_since "$before"
say "a snapshot was saved by the persister"

for service in persist replica; do
    compose kill -s KILL "$service" >/dev/null 2>&1
    expect OK set "while:$service" gone
    compose up --detach >/dev/null 2>&1
    wait_for 60 "$service to come back" healthy "$service"
done
say "companions were killed and are back; the server went on"

compose kill -s KILL server >/dev/null 2>&1
compose up --detach >/dev/null 2>&1
wait_for 60 "the server to come back" answers
expect hello get greeting
expect value:117 get key:117
expect 203 dbsize
wait_for 60 "three healthy services again" all_healthy
say "the killed server came back with its data"
say "ok"
