#!/bin/sh
# The main job on the embedded demo: builds the program, quantizes the demo model to the types of configs/runs/demo.toml, scores
# and times each, and leaves the report in results/demo. Arguments go to `bitworth run` (for example: --device gpu).
set -eu
cd "$(dirname "$0")/.."
. scripts/setup.sh
need_packages gcc libc6-dev
need_cargo
exec cargo run --locked --quiet -- run "$@"
