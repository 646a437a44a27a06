#!/bin/sh
# The whole test suite. GPU tests run on any Vulkan adapter; the software one is installed where there is none.
# Arguments go to `cargo test`.
set -eu
cd "$(dirname "$0")/.."
. scripts/setup.sh
need_packages gcc libc6-dev
need_vulkan
need_cargo
if [ -z "${XDG_RUNTIME_DIR:-}" ]; then
    XDG_RUNTIME_DIR=$(mktemp -d)
    export XDG_RUNTIME_DIR
fi
exec cargo test --locked --workspace "$@"
