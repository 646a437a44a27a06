#!/bin/sh
# The quality table of one model, reference and eight quantizations, from bitworth and from llama.cpp, in turn on this machine: what
# each part takes in wall and CPU seconds and in peak memory. Needs /usr/bin/time and a folder with llama-quantize and llama-perplexity.
#   benches/against_llama_cpp.sh MODEL_DIR TEXT LLAMA_BIN [BITWORTH]
set -eu
model=$1 text=$2 llama=$3 bitworth=${4:-bitworth}
threads=$(nproc)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
timed() { /usr/bin/time -f "%e s wall, %U s CPU, %M KiB: $*" "$@" >"$work/out" 2>"$work/err" || { cat "$work/err"; exit 1; }; tail -n 1 "$work/err"; }

echo "== bitworth"
types="Q8_0 Q6_K Q5_K_M Q5_0 Q4_K_M Q4_1 Q4_0 Q3_K_M"
recipes=$(for type in $types; do echo "@$type" | tr '[:upper:]' '[:lower:]'; done)
for arithmetic in f32 q8; do
    # shellcheck disable=SC2086
    timed "$bitworth" compare "$model" $recipes --text "$text" --ctx 512 --device cpu --arithmetic $arithmetic --quiet
    cat "$work/out"
done
timed "$bitworth" convert "$model" --to f16 --out "$work/f16.gguf" --quiet

echo "== llama.cpp (its converter not counted)"
for type in $types; do
    timed "$llama/llama-quantize" "$work/f16.gguf" "$work/$type.gguf" $type "$threads"
done
score() { timed "$llama/llama-perplexity" -f "$text" -c 512 -b 2048 -t "$threads" --kl-divergence-base "$work/base" "$@"; }
score -m "$work/f16.gguf"
for type in $types; do
    score -m "$work/$type.gguf" --kl-divergence
    grep -hE 'Mean PPL\(Q\)  |Mean +KLD|Same top' "$work/out" "$work/err"
done
