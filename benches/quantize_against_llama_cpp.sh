#!/usr/bin/env bash
# Quantizing with bitworth and with llama-quantize, in turn, on this machine: wall time, CPU time, peak memory, and whether the
# files are the same bytes. Prints Markdown tables.
#   benches/quantize_against_llama_cpp.sh [MODEL.gguf | HF_FOLDER]
# Without a model, one of random weights is made (1.2 GB). Of a Hugging Face folder the F16 GGUF is made first.
# Settings, from the environment:
#   BITWORTH=bitworth          the program
#   LLAMA_QUANTIZE=llama-quantize
#   TYPES="Q4_0 Q4_K_M Q6_K Q2_K IQ4_XS Q8_0 F16"
#   THREADS=$(nproc)  REPETITIONS=3
#   IMATRIX=FILE               an importance matrix for both
#   COLD=1                     the model is put out of the page cache before each run
#   CONVERTER="python convert_hf_to_gguf.py"   with HF_FOLDER: converter and llama-quantize against bitworth alone
#   WORK=FOLDER                where files go [default: a new temporary folder; either way what is made is removed]
set -euo pipefail

bitworth=${BITWORTH:-bitworth} peer=${LLAMA_QUANTIZE:-llama-quantize}
types=${TYPES:-Q4_0 Q4_K_M Q6_K Q2_K IQ4_XS Q8_0 F16}
threads=${THREADS:-$(nproc)} repetitions=${REPETITIONS:-3}
need() { type -P "$1" >/dev/null || { echo "error: $1 is not on the PATH; $2" >&2; exit 2; }; }
need "$bitworth" "set BITWORTH to the program"
need "$peer" "set LLAMA_QUANTIZE to llama.cpp's program"
time=$(type -P gtime || echo /usr/bin/time)
"$time" -f %e true 2>/dev/null || { echo "error: GNU time is needed (apt install time, brew install gnu-time)" >&2; exit 2; }

work=$(mktemp -d -p "${WORK:-${TMPDIR:-/tmp}}")
trap 'rm -rf "$work"' EXIT
mkdir "$work/ours"

folder=
model=${1:-}
if [ -z "$model" ]; then
    model=$work/random-615m.gguf
    "$bitworth" synth --shape random-615m --to f16 --out "$model" --quiet >&2
elif [ -d "$model" ]; then
    folder=$model model=$work/model.gguf
    "$bitworth" convert "$folder" --to f16 --out "$model" --quiet >&2
fi
imatrix=(${IMATRIX:+--imatrix "$IMATRIX"})
ours=("$bitworth" quantize --out "$work/ours" --threads "$threads" --quiet "${imatrix[@]}")

# Runs a command and adds a line to a list: wall seconds, CPU seconds, peak KiB. What was written before is on the disk first, so
# that no run pays for another's files.
timed() {
    local list=$1 input=$2
    shift 2
    sync
    if [ -n "${COLD:-}" ]; then
        find "$input" -type f -exec dd if={} iflag=nocache count=0 status=none \;
    else
        find "$input" -type f -exec cat {} + >/dev/null
    fi
    "$time" -q -o "$work/time" -f '%e %U %S %M' "$@" >"$work/log" 2>&1 || return 1
    awk '{ print $1, $2 + $3, $4 }' "$work/time" >>"$list"
}

failed() { cat "$work/log" >&2; exit 2; }

# column LIST COLUMN [UNIT] [DIGITS] [median]: the column as "median (min..max)" in that unit, or the median alone.
column() { cut -d' ' -f"$2" "$1" | sort -n | awk -v unit="${3:-1}" -v digits="${4:-2}" -v only="${5:-}" '
    { v[NR] = $1 / unit }
    END {
        median = NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2
        number = "%." digits "f"
        printf number, median
        if (only == "" && NR > 1) printf " (" number ".." number ")", v[1], v[NR]
    }'; }
median() { column "$1" 1 1 4 median; }
ratio() { awk -v a="$1" -v b="$2" 'BEGIN { printf "%.2f", a / b }'; }
same() { cmp -s "$1" "$2" && echo yes || echo "**no**"; }
size() { wc -c <"$1" | tr -d ' '; }
# row NAME OURS PEERS BYTES SAME: a row from two lists.
row() {
    echo "| $1 | $(column "$2" 1) | $(column "$3" 1) | $(ratio "$(median "$3")" "$(median "$2")") | $(column "$2" 2) |" \
        "$(column "$3" 2) | $(column "$2" 3 1024 0 median) | $(column "$3" 3 1024 0 median) | $4 | $5 |"
}
heading() {
    echo "| $1 | bitworth, s | $2, s | times faster | bitworth, CPU s | $2, CPU s | bitworth, MiB | $2, MiB | bytes |" \
        "same bytes |"
    echo "|---|---:|---:|---:|---:|---:|---:|---:|---:|---|"
}

echo "$(uname -m), $(sed -n 's/^model name.*: //p' /proc/cpuinfo 2>/dev/null | uniq), $threads threads, $repetitions runs each," \
    "median (min..max); input $(basename "${1:-random-615m}"), F16, $(size "$model") bytes, ${COLD:+not }in the page cache"
echo
heading type llama-quantize
worked=()
for t in $types; do
    made=$work/ours/$(basename "$model" .gguf)-$t.gguf
    rm -f "$work/a" "$work/b"
    for ((i = 0; i < repetitions; i++)); do
        rm -f "$made" "$work/peer.gguf"
        timed "$work/a" "$model" "${ours[@]}" "$model" --to "$t" || break
        timed "$work/b" "$model" "$peer" "${imatrix[@]}" "$model" "$work/peer.gguf" "$t" "$threads" || break
    done
    if [ "$i" -lt "$repetitions" ]; then
        echo "| $t | $(tail -n 1 "$work/log" | tr '|' '/') | | | | | | | | |"
        continue
    fi
    row "$t" "$work/a" "$work/b" "$(size "$made")" "$(same "$made" "$work/peer.gguf")"
    worked+=("$t")
    median "$work/a" >>"$work/singles"
    echo >>"$work/singles"
done

if [ "${#worked[@]}" -gt 1 ]; then
    recipes=$(IFS=, && echo "${worked[*]}")
    rm -f "$work/a"
    for ((i = 0; i < repetitions; i++)); do
        rm -f "$work/ours"/*
        timed "$work/a" "$model" "${ours[@]}" "$model" --to "$recipes" || failed
    done
    singles=$(awk '{ sum += $1 } END { print sum }' "$work/singles")
    echo
    echo "All ${#worked[@]} from one read: $(column "$work/a" 1) s, $(column "$work/a" 3 1024 0 median) MiB;" \
        "one after the other $(printf %.2f "$singles") s, $(ratio "$singles" "$(median "$work/a")") times as long."
fi

if [ -n "$folder" ] && [ -n "${CONVERTER:-}" ]; then
    echo
    heading "from the folder" "converter and llama-quantize"
    made=$work/ours/$(basename "$(realpath "$folder")")-Q4_K_M.gguf
    rm -f "$work/a" "$work/b"
    for ((i = 0; i < repetitions; i++)); do
        rm -f "$work/ours"/* "$work/peer.gguf" "$work/converted.gguf"
        timed "$work/a" "$folder" "${ours[@]}" "$folder" --to Q4_K_M || failed
        # shellcheck disable=SC2016 # expanded by the inner shell
        timed "$work/b" "$folder" sh -c '$1 "$2" --outtype auto --outfile "$3" && shift 3 && "$@"' \
            sh "$CONVERTER" "$folder" "$work/converted.gguf" \
            "$peer" "${imatrix[@]}" "$work/converted.gguf" "$work/peer.gguf" Q4_K_M "$threads" || failed
    done
    row Q4_K_M "$work/a" "$work/b" "$(size "$made")" "$(same "$made" "$work/peer.gguf")"
fi
