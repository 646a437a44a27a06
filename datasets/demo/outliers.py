#!/usr/bin/env python3
"""Give a trained demo model the outlier channels of large models; what it computes stays the same to the bit.

    outliers.py MODEL [--share 0.05] [--most 3]      rewrites MODEL/model.safetensors

In large language models a few channels are many times larger than the others (Dettmers et al. 2022, LLM.int8()), and blocks of
weights that hold one are rounded coarsely: that is much of what low bit widths cost them. A model as small as this one has no such
channels and loses next to nothing down to three bits. So some channels are scaled up where a matrix reads them and down by as
much where they are written: the norms before attention and feed-forward, and the inner channels of the feed-forward. To be run once on a trained model.
All factors are powers of two, which BF16 and every later product carry exactly.
"""

import argparse
import os

import torch
from safetensors.torch import load_file, save_file


def factors(generator, count, share, most):
    """A factor for every channel: 1, or for a share of them 2 to the power of 1 to `most`."""
    chosen = torch.rand(count, generator=generator) < share
    power = torch.randint(1, most + 1, (count,), generator=generator)
    return torch.where(chosen, 2.0 ** power, torch.ones(count))


def scale(weights, prefix, generator, share, most):
    """The channels of one layer."""
    at = lambda name: prefix + name + ".weight"

    def columns(name, f):
        weights[at(name)] = weights[at(name)] * f

    for norm, readers in (("input_layernorm", ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")),
                          ("post_attention_layernorm", ("mlp.gate_proj", "mlp.up_proj"))):
        f = factors(generator, weights[at(norm)].numel(), share, most)
        columns(norm, 1 / f)
        for reader in readers:
            columns(reader, f)
    f = factors(generator, weights[at("mlp.down_proj")].shape[1], share, most)
    columns("mlp.down_proj", f)
    weights[at("mlp.up_proj")] = weights[at("mlp.up_proj")] / f[:, None]


def main():
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("model")
    ap.add_argument("--share", type=float, default=0.05, help="of the channels")
    ap.add_argument("--most", type=int, default=3, help="the largest power of two")
    ap.add_argument("--seed", type=int, default=3)
    args = ap.parse_args()
    path = os.path.join(args.model, "model.safetensors")
    weights = {name: w.float() for name, w in load_file(path).items()}
    generator = torch.Generator().manual_seed(args.seed)
    for layer in sorted({int(name.split(".")[2]) for name in weights if ".layers." in name}):
        scale(weights, f"model.layers.{layer}.", generator, args.share, args.most)
    save_file({name: w.bfloat16().contiguous() for name, w in weights.items()}, path + ".new", metadata={"format": "pt"})
    os.replace(path + ".new", path)


if __name__ == "__main__":
    main()
