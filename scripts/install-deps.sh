#!/usr/bin/env bash
# Installs the Debian 12 packages that RedRock needs, only those that are missing.
#
#   scripts/install-deps.sh run       what building and running needs
#   scripts/install-deps.sh test      and what the tests compare with, client libraries included
#   scripts/install-deps.sh compose   and a container engine for the compose test
#
# The client libraries, of the versions that integration-tests/clients names, go into a folder of
# their own beside the build's: REDROCK_CLIENTS_DIR, or the user's cache folder.
#
# Works as root or through sudo. No service that a package brings is started or enabled:
# a Redis on port 6379 would be in the way, and a machine that already runs one keeps it.
set -euo pipefail

RUN_PACKAGES=(build-essential clang libclang-dev protobuf-compiler libprotobuf-dev pkg-config
    make git ca-certificates redis-tools)
TEST_PACKAGES=(redis-server redis-sentinel openssl strace jq tcl procps shellcheck)
COMPOSE_PACKAGES=(docker.io docker-compose debootstrap iproute2)
# Services of these packages, to be left disabled after a first installation.
SERVICES=(redis-server redis-sentinel docker containerd)

fail() {
    printf 'install-deps: %s\n' "$1" >&2
    exit 1
}

installed() {
    [ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    else
        command -v sudo >/dev/null || fail "not root and no sudo; as root: apt-get install ${missing[*]}"
        sudo -- "$@"
    fi
}

# While this file exists, packages don't start services. One that is already there is the
# administrator's and stays.
POLICY=/usr/sbin/policy-rc.d
policy_made=no

forbid_services() {
    [ ! -e "$POLICY" ] || return 0
    as_root sh -c "printf '#!/bin/sh\nexit 101\n' >$POLICY && chmod 755 $POLICY"
    policy_made=yes
}

allow_services() {
    [ "$policy_made" = no ] || as_root rm -f "$POLICY"
    policy_made=no
}

install_missing() {
    missing=()
    local package service
    for package in "$@"; do
        installed "$package" || missing+=("$package")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    command -v apt-get >/dev/null || fail "this needs Debian's apt-get; missing: ${missing[*]}"
    printf 'install-deps: installing %s\n' "${missing[*]}"
    local fresh=()
    for service in "${SERVICES[@]}"; do
        systemctl cat "$service.service" >/dev/null 2>&1 || fresh+=("$service")
    done
    trap allow_services EXIT
    forbid_services
    apt_install || { as_root apt-get -qq update && apt_install; } ||
        fail "apt-get could not install ${missing[*]}"
    allow_services
    if [ -d /run/systemd/system ]; then
        for service in "${fresh[@]}"; do
            as_root systemctl disable "$service.service" >/dev/null 2>&1 || true
        done
    fi
}

apt_install() {
    as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get install -qq --yes --no-install-recommends "${missing[@]}" </dev/null
}

check_rust() {
    command -v cargo >/dev/null || [ -x "${CARGO_HOME:-$HOME/.cargo}/bin/cargo" ] || fail \
        "cargo is missing. RedRock is built with the toolchain that rust-toolchain.toml names:
  install rustup from https://rustup.rs, open a new shell, and run this again."
}

# A program that may also have been installed in another way than by its package.
lacks() {
    ! command -v "$1" >/dev/null
}

# Installs the client libraries anew when what they are to be has changed.
install_clients() {
    local here folder made want
    here=$(cd "$(dirname "$0")/../integration-tests/clients" && pwd)
    folder=${REDROCK_CLIENTS_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/redrock/clients}
    want=$(cat "$here/requirements.txt" "$here/package.json" "$here/package-lock.json" | sha256sum)
    if [ "$(cat "$folder/installed" 2>/dev/null)" = "$want" ]; then return 0; fi
    printf 'install-deps: client libraries into %s\n' "$folder"
    made=$folder.new
    rm -rf "$made"
    mkdir -p "$made/node" "${folder%/*}"
    cp "$here/package.json" "$here/package-lock.json" "$made/node/"
    (cd "$made/node" && npm install --no-save --silent --no-audit --no-fund --ignore-scripts --omit=optional </dev/null) ||
        fail "npm could not install the client libraries"
    rm -rf "$folder"
    mv "$made" "$folder"
    # A virtual environment holds its own path, so it is made in its place.
    { python3 -m venv "$folder/python" &&
        "$folder/python/bin/pip" install --quiet --disable-pip-version-check -r "$here/requirements.txt" </dev/null; } ||
        fail "pip could not install the client libraries"
    printf '%s\n' "$want" >"$folder/installed"
}

case "${1:-run}" in
run) packages=("${RUN_PACKAGES[@]}") ;;
test) packages=("${RUN_PACKAGES[@]}" "${TEST_PACKAGES[@]}") ;;
compose) packages=("${RUN_PACKAGES[@]}" "${TEST_PACKAGES[@]}" "${COMPOSE_PACKAGES[@]}") ;;
*) fail "usage: $0 [run|test|compose]" ;;
esac
if [ "${1:-run}" != run ]; then
    if lacks node || lacks npm; then packages+=(nodejs npm); fi
    if lacks python3 || ! python3 -c 'import ensurepip' 2>/dev/null; then
        packages+=(python3 python3-venv)
    fi
fi
install_missing "${packages[@]}"
check_rust
[ "${1:-run}" = run ] || install_clients
