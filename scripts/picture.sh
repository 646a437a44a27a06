#!/bin/sh
# The README's picture: the first screen of the committed sample report, by headless Chromium.
set -eu
cd "$(dirname "$0")/.."
. scripts/setup.sh
need_packages chromium-headless-shell fonts-dejavu-core
chromium-headless-shell --headless --no-sandbox --disable-gpu --hide-scrollbars --window-size=1200,1050 \
    --screenshot=results/sample/report.png "file://$PWD/results/sample/report.html"
