#!/usr/bin/env bash
# What files of the same size lose: llama-quantize with llama-imatrix's matrix against `bitworth quantize --fit`, both from one
# text, judged by llama-perplexity --kl-divergence on other texts, and by `bitworth compare` with intervals. Fails where
# the files differ in a tensor's name, type, shape or size, in a key that is not of bitworth, in the value of a key that both
# have, or in size by more than bitworth's own keys take. Prints Markdown tables.
#   benches/quality_against_llama_cpp.sh MODEL CALIBRATION_TEXT TEXT[,TEXT...] LLAMA_BIN_FOLDER
# MODEL is a GGUF file of floats or a Hugging Face folder. Settings, from the environment:
#   BITWORTH=bitworth          the program
#   TYPES="Q4_K_M Q3_K_M Q2_K Q4_0"
#   CTX=512  CHUNKS=64         windows of the calibration text
#   EVAL_CHUNKS=32             windows of each other text
#   THREADS=$(nproc)
#   WORK=FOLDER                where files go [default: a new temporary folder; either way what is made is removed]
set -euo pipefail

[ $# -eq 4 ] || { sed -n '2,14s/^# \{0,1\}//p' "$0" >&2; exit 2; }
source=$1 calibration=$2 texts=$3 llama=$4
bitworth=${BITWORTH:-bitworth} types=${TYPES:-Q4_K_M Q3_K_M Q2_K Q4_0}
ctx=${CTX:-512} chunks=${CHUNKS:-64} eval_chunks=${EVAL_CHUNKS:-32} threads=${THREADS:-$(nproc)}
need() { type -P "$1" >/dev/null || { echo "error: $1 is not there; $2" >&2; exit 2; }; }
need "$bitworth" "set BITWORTH to the program"
for program in imatrix quantize perplexity; do
    need "$llama/llama-$program" "give the folder of llama.cpp's programs"
done

work=$(mktemp -d -p "${WORK:-${TMPDIR:-/tmp}}")
trap 'rm -rf "$work"' EXIT
mkdir "$work/ours" "$work/theirs"
quietly() { "$@" >"$work/log" 2>&1 || { echo "error: $*" >&2; tail -n 20 "$work/log" >&2; exit 2; }; }

model=$work/model.gguf
quietly "$bitworth" convert "$source" --to f16 --out "$model" --quiet
quietly "$llama/llama-imatrix" -m "$model" -f "$calibration" -o "$work/imatrix.gguf" -c "$ctx" --chunks "$chunks" \
    -t "$threads" --no-ppl

# With the matrix both choose the same types, and weigh what is not fitted (embedding, head) alike.
recipes=$(tr '[:upper:] ' '[:lower:],' <<<"$types")
quietly "$bitworth" quantize "$model" --to "$recipes" --imatrix "$work/imatrix.gguf" --out "$work/ours" --device cpu --quiet \
    --fit "$calibration" --fit-ctx "$ctx" --fit-tokens "$((ctx * chunks))" --threads "$threads"
for type in $types; do
    quietly "$llama/llama-quantize" --imatrix "$work/imatrix.gguf" "$model" "$work/theirs/$type.gguf" "$type" "$threads"
done

ours() { echo "$work/ours/model-$1.gguf"; }
theirs() { echo "$work/theirs/$1.gguf"; }
size() { wc -c <"$1" | tr -d ' '; }
# The paragraphs of what inspect says, from the end: a sum, tensors, keys.
paragraph() { "$bitworth" inspect "$1" | awk -v RS= -v back="$2" '{ all[NR] = $0 } END { print all[NR - back] }'; }
tensors() { paragraph "$1" 1; }
values() { paragraph "$1" 2 | awk '{ $1 = $1; print }'; }
keys() { values "$1" | awk '{ print $1 }' | sort; }
# Bytes that the keys of bitworth may take.
own_keys=65536

echo "$(uname -m), $(basename "$source"); $chunks windows of $ctx tokens of $(basename "$calibration") for both," \
    "$eval_chunks of each other text"
echo
echo "| type | bytes of llama.cpp | bytes of bitworth | keys that only one has |"
echo "|---|---:|---:|---|"
for type in $types; do
    if ! diff <(tensors "$(theirs "$type")") <(tensors "$(ours "$type")") >&2; then
        echo "error: $type: the tables of tensors differ" >&2
        exit 1
    fi
    alone=$(comm -3 <(keys "$(theirs "$type")") <(keys "$(ours "$type")") | tr -d '\t')
    others=$(grep -v '^bitworth\.' <<<"$alone" | tr '\n' ' ' || true)
    if [ -n "${others// /}" ]; then
        echo "error: $type: keys differ that are not of bitworth: $others" >&2
        exit 1
    fi
    differ=$(awk 'NR == FNR { theirs[$1] = $0; next } $1 in theirs && theirs[$1] != $0 { printf "%s ", $1 }' \
        <(values "$(theirs "$type")") <(values "$(ours "$type")"))
    if [ -n "$differ" ]; then
        echo "error: $type: keys have other values: $differ" >&2
        exit 1
    fi
    more=$(($(size "$(ours "$type")") - $(size "$(theirs "$type")")))
    if [ "${more#-}" -gt "$own_keys" ]; then
        echo "error: $type: sizes differ by $more bytes, more than keys of bitworth take" >&2
        exit 1
    fi
    echo "| $type | $(size "$(theirs "$type")") | $(size "$(ours "$type")") | $(tr '\n' ' ' <<<"$alone")|"
done

# figure LOG LABEL: the first number behind a label, "0.012345".
figure() { sed -n "s/^$2 *:* *\([0-9.]*\).*/\1/p" "$1" | head -n 1; }
# error LOG LABEL: the number behind its "±".
error() { sed -n "s/^$2 *:* *[0-9.]* ± *\([0-9.]*\).*/\1/p" "$1" | head -n 1; }
change() { awk -v a="$1" -v b="$2" 'BEGIN { if (a > 0) printf "%+.1f %%", 100 * (b / a - 1); else printf "-" }'; }
perplexity() {
    "$llama/llama-perplexity" -f "$text" -c "$ctx" --chunks "$eval_chunks" -t "$threads" \
        --kl-divergence-base "$work/base" "$@"
}

IFS=, read -ra all_texts <<<"$texts"
for text in "${all_texts[@]}"; do
    echo
    echo "$(basename "$text"), by llama-perplexity:"
    echo
    echo "| type | mean KLD, llama.cpp | mean KLD, bitworth | change | 99 % KLD, llama.cpp | 99 % KLD, bitworth |" \
        "same top, llama.cpp | same top, bitworth |"
    echo "|---|---:|---:|---:|---:|---:|---:|---:|"
    quietly perplexity -m "$model"
    for type in $types; do
        for side in theirs ours; do
            # Its last lines are lost now and then, as another thread writes them while the program ends.
            for _ in 1 2 3 4 5; do
                quietly perplexity -m "$("$side" "$type")" --kl-divergence
                [ -n "$(figure "$work/log" 'Mean    KLD')" ] && [ -n "$(figure "$work/log" 'Same top p')" ] && break
            done
            cp "$work/log" "$work/$side.log"
        done
        a=$(figure "$work/theirs.log" 'Mean    KLD') b=$(figure "$work/ours.log" 'Mean    KLD')
        if [ -z "$a" ] || [ -z "$b" ]; then
            echo "error: $type: llama-perplexity says no KLD" >&2
            exit 2
        fi
        echo "| $type | $a ± $(error "$work/theirs.log" 'Mean    KLD') | $b ± $(error "$work/ours.log" 'Mean    KLD') |" \
            "$(change "$a" "$b") | $(figure "$work/theirs.log" '99.0%   KLD') | $(figure "$work/ours.log" '99.0%   KLD') |" \
            "$(figure "$work/theirs.log" 'Same top p') % | $(figure "$work/ours.log" 'Same top p') % |"
    done
    echo
    echo "$(basename "$text"), by bitworth:"
    echo
    files=()
    for type in $types; do files+=("$(theirs "$type")" "$(ours "$type")"); done
    "$bitworth" compare "$model" "${files[@]}" --text "$text" --ctx "$ctx" --chunks "$eval_chunks" --device cpu --quiet
done
