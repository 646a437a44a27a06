"""Log-probabilities of the same requests by lm-evaluation-harness's Hugging Face backend and by bitworth, and how long both take.

    bitworth eval --tasks hellaswag --limit 80 --requests-out requests.jsonl
    python benches/requests_against_lm_eval.py MODEL_DIR requests.jsonl target/release/bitworth

Needs Python with lm_eval 0.4.13, torch, transformers and pyarrow. Both compute in float32 on the CPU; the backend takes batches of 8 and
its own start is not timed, bitworth's is.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow.parquet as parquet
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM


def main(model: str, requests: str, bitworth: str) -> None:
    lines = [json.loads(line) for line in open(requests, encoding="utf-8")]
    pairs = [pair for line in lines for pair in line["requests"] if len(pair) == 2]
    backend = HFLM(pretrained=model, dtype="float32", device="cpu", batch_size=8)
    instances = [Instance("loglikelihood", {}, tuple(pair), i) for i, pair in enumerate(pairs)]
    begin = time.time()
    theirs = backend.loglikelihood(instances, disable_tqdm=True)
    their_seconds = time.time() - begin
    with tempfile.TemporaryDirectory() as folder:
        asked, answered = Path(folder) / "asked.jsonl", Path(folder) / "answered.parquet"
        with open(asked, "w", encoding="utf-8") as file:
            for context, continuation in pairs:
                file.write(json.dumps({"context": context, "continuation": continuation}) + "\n")
        command = [bitworth, "score", model, "--requests", asked, "--out", answered, "--device", "cpu", "--quiet"]
        begin = time.time()
        subprocess.run(command, check=True)
        our_seconds = time.time() - begin
        ours = parquet.read_table(answered).to_pydict()
    largest = max(abs(a[0] - b) for a, b in zip(theirs, ours["logprob"]))
    flags = sum(bool(a[1]) != b for a, b in zip(theirs, ours["is_greedy"]))
    print(f"{len(pairs)} requests: lm-evaluation-harness {their_seconds:.1f} s, bitworth {our_seconds:.1f} s")
    print(f"ratio {their_seconds / our_seconds:.2f}; largest difference {largest:.2e}; greedy flags that differ: {flags}")


if __name__ == "__main__":
    main(*sys.argv[1:])
