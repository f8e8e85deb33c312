"""Live blocks of the installed transformers: every family's layer in a small size, its float32 casts promoted to float64.

A block is built from a stub configuration that answers the attributes which the block reads, and remembers them: what
`moespec.interop.hf.load` is given is exactly that.  Tokens and weights lie on a coarse binary grid, so that linear logits are exact in any
order of summation and everybody selects the same experts.
"""

from __future__ import annotations

import contextlib
import importlib

import numpy as np
import torch
from family_blocks import BLOCKS
from family_config import VOCAB, Config, Sizes


@contextlib.contextmanager
def promoted():
    """Every float32 that code asks for by name is float64."""
    names = {n: getattr(torch, n) for n in ("float32", "float")}
    casts = {n: getattr(torch.Tensor, n) for n in ("float",)}
    try:
        for n in names:
            setattr(torch, n, torch.float64)
        torch.Tensor.float = torch.Tensor.double
        yield
    finally:
        for n, value in names.items():
            setattr(torch, n, value)
        for n, value in casts.items():
            setattr(torch.Tensor, n, value)


def installed(name):
    """Whether the installed transformers has the family."""
    return importlib.util.find_spec(f"transformers.models.{BLOCKS[name].module or BLOCKS[name].family}") is not None


def build(name, seed=0, sizes=Sizes()):      # noqa: B008
    """A block in float64, its configuration, and its tensors as arrays."""
    entry, rng = BLOCKS[name], np.random.default_rng(seed)
    folder = entry.module or entry.family
    module = importlib.import_module(f"transformers.models.{folder}.modeling_{folder}")
    config = sized(entry.over, sizes)
    args = [sizes.f if a == "f" else a for a in entry.args]
    block = entry.make(module, config) if entry.make else getattr(module, entry.cls)(config, *args)
    block = block.double().eval()
    for key, tensor in block.state_dict().items():
        if tensor.dtype == torch.float64:
            tensor.copy_(torch.tensor(grid(key, tensor.shape, rng) + (entry.shift if key.endswith("correction_bias") else 0.0)))
        else:
            tensor.copy_(torch.tensor(rng.integers(0, sizes.e, tensor.shape)))
    read = dict(config.read)
    if "per_layer_config" in read:
        read |= read.pop("per_layer_config")[0].read
    return block, read, {k: v.numpy().copy() for k, v in block.state_dict().items()}


def sized(over, sizes):
    """A configuration of these sizes, the ones inside it too."""
    def inner(value):
        if isinstance(value, list):
            return [inner(v) for v in value]
        return sized(value.over, sizes) if isinstance(value, Config) else value
    return Config(sizes, **{name: inner(value) for name, value in over.items()})


def grid(key, shape, rng):
    """Multiples of 2**-8: matrices about as large as trained ones, biases that matter, scales around 1."""
    if any(s in key for s in ("norm.weight", "scale")):
        return 1 + np.round(rng.standard_normal(shape) * 0.25 * 256) / 256
    size = 0.125 if "bias" in key and "gate_up" not in key else 0.25
    return np.round(rng.standard_normal(shape) * size * 256) / 256


def given(name, rng, sizes):
    """The arrays that some blocks need beside the tokens."""
    shape = (sizes.batch, sizes.time)
    made = {"input_ids": rng.integers(0, VOCAB, shape), "moe_mm_token_type_ids": rng.integers(0, 2, shape),
            "router_states": np.round(rng.standard_normal((*shape, 16)) * 64) / 64, "dataset_index": np.arange(sizes.batch)[:, None] + 1}
    return {n: made[n] for n in BLOCKS[name].context}


def run(name, seed=0, sizes=Sizes(), native=False):      # noqa: B008
    """x, cotangent, context, configuration, tensors, output and gradients of one block; in float32 with its own casts if `native`."""
    rng, cast = np.random.default_rng(seed + 100), np.float32 if native else np.float64
    with contextlib.nullcontext() if native else promoted():
        block, config, tensors = build(name, seed, sizes)
        x, g = ((np.round(rng.standard_normal((sizes.batch, sizes.time, sizes.d)) * 64) / 64).astype(cast) for _ in range(2))
        more = {n: a.astype(cast) if a.dtype.kind == "f" else a for n, a in given(name, rng, sizes).items()}
        block = block.float() if native else block
        held = torch.tensor(x, requires_grad=True)
        y = BLOCKS[name].call(block, held.clone(), more)
        (y * torch.tensor(g)).sum().backward()
    grads = {k: np.zeros(tuple(p.shape)) if p.grad is None else p.grad.numpy() for k, p in block.named_parameters()}
    tensors = {k: a.astype(cast) if a.dtype.kind == "f" else a for k, a in tensors.items()}
    return x, g, more, config, tensors, y.detach().numpy(), held.grad.numpy(), grads
