#!/bin/sh
# Makes the demo world again, all of it: the text and the tasks, the tokenizer (where there is none), the model (an hour on two idle
# cores), what to expect of it, and the checksums. The text comes out the same to the byte, the model is another of the same kind
# (train.py says why).
#
#   make.sh            everything
#   make.sh expected   only the expected table and the checksums, for the files as they are (not PYTORCH.json, which needs Python)
set -eu
cd "$(dirname "$0")"

if [ "${1:-all}" != expected ]; then
    python3 -m venv .venv
    .venv/bin/pip install --quiet -r requirements.txt
    .venv/bin/python make_world.py --out data
    [ -f demo-model/tokenizer.json ] || .venv/bin/python make_tokenizer.py data/train.txt demo-model
    .venv/bin/python train.py --data data --out demo-model
    .venv/bin/python outliers.py demo-model
    # The referee: the same figures from PyTorch, to which a test holds the program and the bf16 row of EXPECTED.csv.
    .venv/bin/python score.py demo-model --out PYTORCH.json
fi

sums() {
    sha256sum demo-model/* data/*.txt data/tasks/*.jsonl | grep -v ' data/train.txt$'
}
# The program carries these files inside: they must be right before it is built.
sums > SHA256SUMS
cd ../..
out=results/demo-expected
rm -rf "$out"
cargo run --locked --quiet -- run --device cpu --no-speed --out "$out"
cp "$out/summary.csv" datasets/demo/EXPECTED.csv
cp "$out/report.md" datasets/demo/EXPECTED.md
