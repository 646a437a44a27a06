#!/bin/sh
# Decoding of several sequences at once by bitworth and by llama-batched-bench, in turn on this machine: medians of so many rounds, in
# tokens per second of all sequences together, and their ratio. Needs llama-batched-bench, and no other work on the machine.
#   benches/batches_against_llama_batched_bench.sh LLAMA_BATCHED_BENCH BITWORTH FILE.gguf...
#   (ROUNDS=3 PROMPT=16 GENERATE=64 BATCHES=4,8,16)
set -eu
llama=$1 bitworth=$2
shift 2
threads=$(nproc)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
prompt=${PROMPT:-16} generate=${GENERATE:-64} batches=${BATCHES:-4,8,16}
most=$(echo "$batches" | tr , '\n' | sort -n | tail -n 1)
median() { sort -n "$1" | awk '{ v[NR] = $1 } END { print (v[int((NR + 1) / 2)] + v[int(NR / 2) + 1]) / 2 }'; }
echo "| file | sequences | bitworth | llama-batched-bench | ratio |"
echo "|---|---:|---:|---:|---:|"
for file in "$@"; do
    rm -f "$work"/*
    round=0
    while [ "$round" -lt "${ROUNDS:-3}" ]; do
        round=$((round + 1))
        "$llama" -m "$file" -npp "$prompt" -ntg "$generate" -npl "$batches" -t "$threads" -c $((most * (prompt + generate))) \
            --output-format jsonl 2>/dev/null | sed -n 's/.*"pl": *\([0-9]*\),.*"speed_tg": *\([0-9.]*\).*/\1 \2/p' |
            while read -r batch rate; do echo "$rate" >>"$work/llama.$batch"; done
        "$bitworth" bench --device cpu -p 0 -n "$generate" -d "$prompt" --batch "$batches" -r 1 --threads "$threads" --quiet -o csv "$file" |
            awk -F , 'NR == 1 { for (i = 1; i <= NF; i++) { if ($i == "batch") b = i; if ($i == "tps") r = i } }
                NR > 1 && $r != "" { print $b, $r }' |
            while read -r batch rate; do echo "$rate" >>"$work/bitworth.$batch"; done
    done
    for batch in $(echo "$batches" | tr , ' '); do
        ours=$(median "$work/bitworth.$batch") theirs=$(median "$work/llama.$batch")
        printf '| %s | %s | %.1f | %.1f | %.2f |\n' "$(basename "$file")" "$batch" "$ours" "$theirs" "$(awk "BEGIN { print $ours / $theirs }")"
    done
done
