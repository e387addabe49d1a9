#!/usr/bin/env bash
# Makes the container image from the built binaries (`make image`).
#
#   scripts/build-image.sh [TAG]     default redrock:latest; BASE sets the image to build upon
set -euo pipefail
cd "$(dirname "$0")/.."
: "${CARGO_TARGET_DIR:?set by the Makefile: run make image}"

tag=${1:-redrock:latest}
context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT
for program in redrock-server redrock-persist redrock-replica redrockctl; do
    strip --strip-debug -o "$context/$program" "$CARGO_TARGET_DIR/release/$program"
done
cp deploy/redrock.conf deploy/Dockerfile "$context/"
# The classic builder: it needs no plug-in.
DOCKER_BUILDKIT=0 docker build --tag "$tag" ${BASE:+--build-arg "BASE=$BASE"} "$context"
