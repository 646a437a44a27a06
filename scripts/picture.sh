#!/bin/sh
# The README's pictures, by headless Chromium: the first screen of the committed sample report, that of the comparison of two
# machines, and that of the demo model's sensitivities. The last two are written anew.
set -eu
cd "$(dirname "$0")/.."
. scripts/setup.sh
need_packages chromium-headless-shell fonts-dejavu-core

# picture PAGE PNG WIDTH,HEIGHT
picture() {
    chromium-headless-shell --headless --no-sandbox --disable-gpu --hide-scrollbars --window-size="$3" --screenshot="$2" "file://$1"
}

picture "$PWD/results/sample/report.html" results/sample/report.png 1200,1500
advice=$(mktemp -d)
trap 'rm -r "$advice"' EXIT
cargo run --quiet --bin bitworth -- advise configs/runs/m2-ultra-vs-ryzen-395.toml --out "$advice" --quiet >/dev/null
picture "$advice/advice.html" results/sample/advice.png 1100,1160
measured=$advice/sensitivities.parquet
cargo run --quiet --bin bitworth -- measure demo --text demo:data/calib.txt --types q2_k,q3_k,q4_k --ctx 256 --tokens 16384 \
    --device cpu --out "$measured" --quiet >/dev/null
cargo run --quiet --bin bitworth -- report "$measured" --out "$advice" --quiet >/dev/null
picture "$advice/sensitivities.html" results/sample/sensitivities.png 1100,890
