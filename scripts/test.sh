#!/bin/sh
# The whole test suite, and how many tests skipped something for lack of what. GPU tests run on any Vulkan adapter; the software
# one is installed where there is none. Arguments go to `cargo test`.
set -eu
cd "$(dirname "$0")/.."
. scripts/setup.sh
need_packages gcc libc6-dev
need_vulkan
need_cargo
work=$(mktemp -d)
trap 'rm -r "$work"' EXIT
if [ -z "${XDG_RUNTIME_DIR:-}" ]; then
    mkdir -m 700 "$work/runtime"
    export XDG_RUNTIME_DIR="$work/runtime"
fi
# A line for everything that a test leaves out: what it lacks, its name, why (tests/it/skip.rs).
export BITWORTH_SKIPPED="$work/skipped"
: >"$BITWORTH_SKIPPED"
# A few more tests at a time than cores: some wait for a lock, a browser or a server, and meanwhile others run.
export RUST_TEST_THREADS="${RUST_TEST_THREADS:-$(($(nproc) + 4))}"
# What the software adapter takes longest for is compiling shaders, and narrow vectors compile two to five times as fast.
export LP_NATIVE_VECTOR_WIDTH="${LP_NATIVE_VECTOR_WIDTH:-128}"
status=0
cargo test --locked --workspace "$@" || status=$?

if [ -s "$BITWORTH_SKIPPED" ]; then
    cut -f 1,2 "$BITWORTH_SKIPPED" | sort -u | cut -f 1 | uniq -c | while read -r tests what; do
        echo "tests skipped for lack of $what, in whole or in part: $tests"
    done
else
    echo "no test was skipped for lack of golden data, a GPU or Chromium"
fi
exit "$status"
