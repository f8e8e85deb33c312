"""Kernels of torch and JAX that are right: the bound must admit every one, in every dtype, with gradients by their own autograd."""

import importlib.util
import itertools

import numpy as np
import pytest

from moespec.conformance import check

DTYPES = ("float32", "bfloat16", "float16")
KEPT = {"declares": {"stores": {"gates.softmax": {"probs": "dtype"}}}}      # torch's fused backward reads the rounded probabilities


def torch_forms():
    import torch
    from torch.nn import functional as F

    def wide(function):
        """float32 inside, one rounding at the end, as fused kernels do."""
        return lambda x: function(x.float()).to(x.dtype)

    def loop(rows, w, offsets):
        bounds = offsets.tolist()
        parts = [rows[a:b].float() @ w[e].float() for e, (a, b) in enumerate(itertools.pairwise(bounds))]
        dead = torch.zeros(len(rows) - bounds[-1], w.shape[2])
        return torch.cat([*parts, dead]).to(rows.dtype)

    def combine(rows, weights, row):
        live = row >= 0
        taken = rows.float()[row.clamp(min=0)] if len(rows) else torch.zeros(*row.shape, rows.shape[1])
        return torch.einsum("tk,tkd->td", torch.where(live, weights.float(), 0.0), torch.where(live[..., None], taken, 0.0)).to(rows.dtype)

    def z_loss(logits, mask=None):
        if not len(logits) or (mask is not None and not mask.all()):
            raise NotImplementedError("a mean over valid tokens only")
        return (torch.logsumexp(logits.float(), 1) ** 2).mean()

    yield "torch.softmax", "gates.softmax", lambda l: torch.softmax(l, 1), KEPT
    yield "softmax in float32", "gates.softmax", wide(lambda l: torch.softmax(l, 1)), {}
    yield "exp of log_softmax", "gates.softmax", wide(lambda l: torch.log_softmax(l, 1).exp()), {"cases": "[!p]*"}      # +inf: SOFTMAX-4
    yield "silu", "experts.silu", wide(F.silu), {}
    yield "gelu", "experts.gelu", wide(F.gelu), {}
    yield "gelu, tanh", "experts.gelu_tanh", wide(lambda x: F.gelu(x, approximate="tanh")), {}
    yield "relu", "experts.relu", F.relu, {"cases": "*[!n]"}           # all but "nan": there its derivative is 1, ours 0
    yield "relu squared", "experts.relu2", wide(lambda x: F.relu(x) ** 2), {}
    yield "a loop of matmuls", "experts.grouped_matmul", loop, {}
    yield "combine by einsum", "dispatch.combine", combine, {"cases": "[!n]*"}      # NaN that nobody reads: einsum reads it
    yield "logsumexp squared", "losses.z_loss", z_loss, {"cases": "[!mnp]*"}


def jax_forms():
    import jax

    def wide(function):
        return lambda x: function(x.astype("float32")).astype(x.dtype)

    def ragged(rows, w, offsets):
        sizes = jax.numpy.diff(offsets).astype("int32")
        return jax.lax.ragged_dot(rows.astype("float32"), w.astype("float32"), sizes).astype(rows.dtype)

    yield "jax.nn.softmax", "gates.softmax", wide(lambda l: jax.nn.softmax(l, axis=1))
    yield "jax.nn.silu", "experts.silu", wide(jax.nn.silu)
    yield "jax.nn.gelu", "experts.gelu", wide(lambda x: jax.nn.gelu(x, approximate=False))
    yield "jax.nn.gelu, tanh", "experts.gelu_tanh", wide(lambda x: jax.nn.gelu(x, approximate=True))
    yield "jax.nn.relu", "experts.relu", jax.nn.relu
    yield "jax.lax.ragged_dot", "experts.grouped_matmul", ragged


TORCH = ("torch.softmax", "softmax in float32", "exp of log_softmax", "silu", "gelu", "gelu, tanh", "relu", "relu squared", "a loop of matmuls",
         "combine by einsum", "logsumexp squared")
JAX = ("jax.nn.softmax", "jax.nn.silu", "jax.nn.gelu", "jax.nn.gelu, tanh", "jax.nn.relu", "jax.lax.ragged_dot")


@pytest.mark.parametrize("name", TORCH)
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_correct_torch_kernel_is_admitted(name, dtype):
    from moespec.interop.torch import kernel
    op, function, rules = {n: rest for n, *rest in torch_forms()}[name]
    with np.errstate(all="ignore"):
        report = check(op, **kernel(function), dtypes=[dtype], **rules)
    assert report.executed > 20


@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="needs jax")
@pytest.mark.parametrize("name", JAX)
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_correct_jax_kernel_is_admitted(name, dtype):
    import jax
    op, function = {n: rest for n, *rest in jax_forms()}[name]

    def forward(*inputs, **attrs):
        spots = [i for i, x in enumerate(inputs) if x.dtype.kind not in "iub"]

        def real(*moving):
            given = list(inputs)
            for i, x in zip(spots, moving, strict=True):
                given[i] = x
            return function(*given, **attrs)
        return jax.vjp(real, *(inputs[i] for i in spots))

    with jax.enable_x64(True), np.errstate(all="ignore"):
        report = check(op, forward=forward, backward=lambda pull, d: pull(d), from_array=jax.numpy.asarray, dtypes=[dtype])
    assert report.executed > 20
