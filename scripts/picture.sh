#!/bin/sh
# The README's pictures, by headless Chromium: the first screen of the committed sample report, and that of the comparison of two
# machines, which is written anew.
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
