#!/bin/sh
# Prefill and decoding of GGUF files by bitworth and by llama-bench, in turn on this machine: medians of so many rounds, in tokens
# per second, and their ratio. Needs llama-bench, and no other work on the machine.
#   benches/decode_against_llama_bench.sh LLAMA_BENCH BITWORTH FILE.gguf...     (ROUNDS=5 PROMPT=512 GENERATE=128)
set -eu
llama=$1 bitworth=$2
shift 2
threads=$(nproc)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
prompt=${PROMPT:-512} generate=${GENERATE:-128}
median() { sort -n "$1" | awk '{ v[NR] = $1 } END { print (v[int((NR + 1) / 2)] + v[int(NR / 2) + 1]) / 2 }'; }
echo "| file | bitworth pp$prompt | llama-bench | ratio | bitworth tg$generate | llama-bench | ratio | bitworth, MiB taken |"
echo "|---|---:|---:|---:|---:|---:|---:|---:|"
for file in "$@"; do
    rm -f "$work"/*
    round=0
    while [ "$round" -lt "${ROUNDS:-5}" ]; do
        round=$((round + 1))
        # A line of each test: the prompt's, then the decoding's.
        "$llama" -m "$file" -p "$prompt" -n "$generate" -t "$threads" -r 1 -o jsonl 2>/dev/null |
            sed -n 's/.*"avg_ts": *\([0-9.]*\).*/\1/p' |
            awk '{ print $1 > (out (NR == 1 ? "pp" : "tg")) }' out="$work/round-"
        "$bitworth" bench --device cpu -p "$prompt" -n "$generate" -r 1 --threads "$threads" --quiet -o csv "$file" |
            awk -F , 'NR == 1 { for (i = 1; i <= NF; i++) { if ($i == "memory_bytes") m = i; if ($i == "tps") r = i } }
                NR > 1 { print ($r == "" ? "nan" : $r) > (out (NR == 2 ? "pp" : "tg")); print $m / 1048576 > (out "mem") }' out="$work/own-"
        for phase in pp tg; do
            cat "$work/round-$phase" >>"$work/llama.$phase"
            # A timing that drifted has no figure; the round then does not count.
            grep -v nan "$work/own-$phase" >>"$work/bitworth.$phase" || true
        done
    done
    row="| $(basename "$file")"
    for phase in pp tg; do
        ours=$(median "$work/bitworth.$phase") theirs=$(median "$work/llama.$phase")
        row="$row | $(printf '%.1f | %.1f | %.2f' "$ours" "$theirs" "$(awk "BEGIN { print $ours / $theirs }")")"
    done
    echo "$row | $(tail -n 1 "$work/own-mem" | xargs printf '%.0f') |"
done
