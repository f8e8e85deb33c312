"""Write tests/data/families.npz: a few live blocks in a tiny size, for machines without torch.  `python tests/peers/golden.py`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import transformers
from families import run
from family_config import Sizes

FILE = Path(__file__).parents[1] / "data" / "families.npz"
TINY = Sizes(d=8, f=3, shared=2, e=8, batch=2, time=4)
GRID = 256
# One block for each row of routers and kind of experts.
NAMES = ("mixtral", "qwen2_moe", "dbrx", "gpt_oss", "cohere2_moe", "llama4", "minimax_m3_vl", "afmoe", "lfm2_moe", "laguna",
         "deepseek_v3", "axk2", "mistral4", "ernie4_5_vl_moe", "longcat_flash", "deepseek_v4", "deepseek_v4.1", "inkling2", "kolibri1", "inkling",
         "gemma4", "phimoe", "switch_transformers", "nllb_moe", "zaya.1", "doge", "vitpose_backbone", "nemotron_h", "muse_spark", "step3p7")


def main():
    found = {"made": np.array(json.dumps({"transformers": transformers.__version__}))}
    for name in NAMES:
        x, g, context, config, tensors, y, dx, grads = run(name, sizes=TINY)
        exact = {"x": x, "g": g, **{f"c/{k}": a for k, a in context.items()}, **{f"p/{k}": a for k, a in tensors.items()}}
        real = {"y": y, "dx": dx, **{f"d/{k}": a for k, a in grads.items()}}
        head = {"config": config, "exact": [[k, a.shape, a.dtype.name] for k, a in exact.items()], "real": [[k, a.shape] for k, a in real.items()]}
        found[f"{name}/head"] = np.array(json.dumps(head))
        found[f"{name}/exact"] = flat(exact, GRID).astype("int16")                      # multiples of 1/256
        found[f"{name}/real"] = flat(real)
    FILE.parent.mkdir(exist_ok=True)
    np.savez_compressed(FILE, **found)


def flat(arrays, times=1):
    return np.concatenate([np.asarray(a, float).ravel() * times for a in arrays.values()])


if __name__ == "__main__":
    main()
