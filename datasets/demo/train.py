#!/usr/bin/env python3
"""Train the demo model on DATA/train.txt, on the CPU.

    train.py --data data --out demo-model [--steps N] [--resume CHECKPOINT]

OUT must hold tokenizer.json. Writes OUT/model.safetensors (BF16), config.json and generation_config.json at the end and
training.json (how it was made) beside OUT; and every few minutes OUT.ckpt: weights, optimizers and step, which --resume goes on
from. Other --steps may be given then: the schedule depends on them only where the rate falls.

Matrices are trained with Muon (Jordan 2024, https://kellerjordan.github.io/posts/muon: momentum, then the nearest
semi-orthogonal matrix by five Newton-Schulz steps), the embedding and the norms with AdamW. The learning rate rises for
WARMUP steps, stays, and falls to nothing over the last part of the steps. Sums of floats depend on the library and the
processor: another machine makes another model of the same kind.
"""

import argparse
import json
import os
import time

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from tokenizers import Tokenizer

from model import CONFIG, Llama

CONTEXT = 256
ROWS = 8                            # windows in a step
MUON_RATE, ADAM_RATE, WARMUP, FALL = 0.02, 3e-3, 200, 0.4
DECAY = 0.1                         # of the matrices: without it attention becomes all or nothing


def encode(path, tokenizer):
    """Every document's ids, as one array and the documents' bounds; kept beside the text for the next run."""
    cache = path + ".ids.npz"
    if not os.path.exists(cache) or os.path.getmtime(cache) < os.path.getmtime(path):
        with open(path, encoding="utf-8") as f:
            lines = f.read().splitlines()
        ids, bounds = [], [0]
        for i in range(0, len(lines), 20000):
            for e in tokenizer.encode_batch(lines[i:i + 20000], add_special_tokens=False):
                ids.append(np.array(e.ids, dtype=np.uint16))
                bounds.append(bounds[-1] + len(e.ids))
        np.savez(cache, ids=np.concatenate(ids), bounds=np.array(bounds))
    z = np.load(cache)
    return z["ids"], z["bounds"]


def windows(ids, bounds, newline, seed):
    """Endless windows of CONTEXT + 1 ids: the start token, then documents in their order, each ended by a newline (or, one time
    in ten, by the start token, which is also the end token). A document that does not fit is cut."""
    rng = np.random.default_rng(seed)
    window, size = [np.zeros(1, np.int64)], 1
    while True:
        for begin, end in zip(bounds[:-1], bounds[1:]):
            stop = 0 if rng.random() < 0.1 else newline
            window.append(np.append(ids[begin:end].astype(np.int64), stop))
            size += len(window[-1])
            if size > CONTEXT:
                yield np.concatenate(window)[:CONTEXT + 1]
                window, size = [np.zeros(1, np.int64)], 1


def build(seed):
    torch.manual_seed(seed)
    model = Llama()
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.dim() == 2:
                p.normal_(0, 0.02 if "embed" in name else p.shape[1] ** -0.5 / 2)
                if "o_proj" in name or "down_proj" in name:      # what is added to the stream begins small
                    p.mul_(0.1)
    return model


def orthogonal(g):
    """The semi-orthogonal matrices near those of g [count, rows, columns], by five Newton-Schulz steps in bfloat16."""
    x = g.bfloat16() / (g.norm(dim=(1, 2), keepdim=True) + 1e-7)
    wide = x.shape[1] <= x.shape[2]
    x = x if wide else x.transpose(1, 2)
    for _ in range(5):
        a = x @ x.transpose(1, 2)
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return (x if wide else x.transpose(1, 2)).float()


class Muon(torch.optim.Optimizer):
    def __init__(self, params, lr, momentum=0.95, weight_decay=0.0):
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            shapes = {}
            for p in group["params"]:
                shapes.setdefault(p.shape, []).append(p)
            for shape, params in shapes.items():                 # matrices of one shape together
                momenta = []
                for p in params:
                    m = self.state[p].setdefault("momentum", torch.zeros_like(p))
                    m.lerp_(p.grad, 1 - group["momentum"])
                    momenta.append(p.grad.lerp(m, group["momentum"]))
                scale = group["lr"] * max(1, shape[0] / shape[1]) ** 0.5
                for p, update in zip(params, orthogonal(torch.stack(momenta))):
                    p.mul_(1 - group["lr"] * group["weight_decay"]).sub_(update, alpha=scale)


def save(model, out):
    os.makedirs(out, exist_ok=True)
    tensors = {k: v.detach().to(torch.bfloat16).contiguous() for k, v in model.state_dict().items()}
    save_file(tensors, os.path.join(out, "model.safetensors.new"), metadata={"format": "pt"})
    os.replace(os.path.join(out, "model.safetensors.new"), os.path.join(out, "model.safetensors"))
    for name, content in (("config.json", CONFIG), ("generation_config.json", {"bos_token_id": 0, "eos_token_id": 0})):
        with open(os.path.join(out, name), "w") as f:
            json.dump(content, f, indent=2)
            f.write("\n")


def rate(step, steps):
    """The learning rate's share of its peak."""
    return min(1, (step + 1) / WARMUP) * min(1, (steps - step) / (FALL * steps))


def main():
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("--data", default="data")
    ap.add_argument("--out", default="demo-model")
    ap.add_argument("--steps", type=int, default=13500)
    ap.add_argument("--seed", type=int, default=7)
    ap.add_argument("--resume", help="a checkpoint to go on from")
    ap.add_argument("--every", type=float, default=4, help="minutes between checkpoints")
    ap.add_argument("--threads", type=int, default=2)
    args = ap.parse_args()
    torch.set_num_threads(args.threads)

    tokenizer = Tokenizer.from_file(os.path.join(args.out, "tokenizer.json"))
    ids, bounds = encode(os.path.join(args.data, "train.txt"), tokenizer)
    print(f"{len(ids) / 1e6:.1f} million ids in {len(bounds) - 1} documents", flush=True)
    feed = windows(ids, bounds, tokenizer.token_to_id("Ċ"), args.seed)
    model = build(args.seed).train()
    matrices = [p for n, p in model.named_parameters() if p.dim() == 2 and "embed" not in n]
    rest = [p for n, p in model.named_parameters() if p.dim() != 2 or "embed" in n]
    optimizers = [Muon(matrices, lr=MUON_RATE, weight_decay=DECAY),
                  torch.optim.AdamW(rest, lr=ADAM_RATE, betas=(0.9, 0.95), weight_decay=0.0, fused=True)]
    peaks = [o.param_groups[0]["lr"] for o in optimizers]
    first, seconds = 0, 0.0                                      # of an earlier part
    if args.resume:
        checkpoint = torch.load(args.resume)
        model.load_state_dict(checkpoint["model"])
        for o, state in zip(optimizers, checkpoint["optimizers"]):
            o.load_state_dict(state)
        first, seconds = checkpoint["step"], checkpoint["seconds"]
        for _ in range(first * ROWS):
            next(feed)

    start = saved = time.time()
    losses, last = [], 0.0
    elapsed = lambda: seconds + time.time() - start
    for step in range(first, args.steps):
        for o, peak in zip(optimizers, peaks):
            o.param_groups[0]["lr"] = peak * rate(step, args.steps)
        x = torch.from_numpy(np.stack([next(feed) for _ in range(ROWS)]))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = model(x[:, :-1])
        loss = F.cross_entropy(logits.float().flatten(0, 1), x[:, 1:].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(rest, 1.0)
        for o in optimizers:
            o.step()
            o.zero_grad(set_to_none=True)
        losses.append(loss.item())
        done = step + 1
        if done % 100 == 0:
            last, losses = float(np.mean(losses)), []
            print(f"step {done} {done * ROWS * CONTEXT / 1e6:.2f} Mtok loss {last:.4f} rate {rate(step, args.steps):.3f} "
                  f"{elapsed():.0f} s", flush=True)
        if done == args.steps or time.time() - saved > 60 * args.every:
            saved = time.time()
            torch.save({"model": model.state_dict(), "optimizers": [o.state_dict() for o in optimizers], "step": done,
                        "seconds": elapsed()},
                       args.out.rstrip("/") + ".ckpt.new")
            os.replace(args.out.rstrip("/") + ".ckpt.new", args.out.rstrip("/") + ".ckpt")
    save(model, args.out)
    with open(os.path.join(os.path.dirname(os.path.abspath(args.out)), "training.json"), "w") as f:
        json.dump({"seed": args.seed, "steps": args.steps, "tokens": args.steps * ROWS * CONTEXT, "context": CONTEXT,
                   "windows_per_step": ROWS, "muon_rate": MUON_RATE, "adam_rate": ADAM_RATE, "weight_decay": DECAY, "warmup_steps": WARMUP,
                   "falling_share": FALL, "final_loss": round(last, 4), "seconds": round(elapsed()),
                   "threads": args.threads, "torch": torch.__version__, "numpy": np.__version__}, f, indent=2)
        f.write("\n")


if __name__ == "__main__":
    main()
