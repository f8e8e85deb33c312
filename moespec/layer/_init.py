"""Parameters and noise of a layer, drawn on the host in a documented order."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from moespec.layer._params import integers, parameter_shapes
from moespec.layer._routers import Hierarchical
from moespec.memory import aligned

ZEROS = ("b", "b_in", "b_out", "b_1", "b_2", "b_gate", "b_up", "b_down", "b_rest", "correction")
ONES = ("norm_scale", "memory_scale", "scale", "expert_scale")


def init(spec, d_model: int, *, rng=None, dtype="float64") -> dict[str, np.ndarray]:
    """Parameters by dotted name.

    Matrices are drawn from a normal distribution with standard deviation sqrt(init_scale / fan-in), truncated at two
    standard deviations (Switch Transformers, section 2.4); router matrices are 0 where the router says ``init="zeros"``
    (Shazeer et al. 2017, Appendix A); biases and selection biases are 0, scales 1; the thresholds of batch-wise gating start at 1/E;
    hash tables hold uniform ids.
    """
    rng = np.random.default_rng(rng)
    router = spec.router.primary if isinstance(spec.router, Hierarchical) else spec.router
    quiet, ids, params = getattr(router, "init", "normal") == "zeros", integers(spec), {}
    for name, shape in parameter_shapes(spec, d_model).items():
        start = rng.integers(0, ids[name], shape) if name in ids else _start(spec, name, shape, quiet, rng)
        params[name] = aligned(shape, start.dtype if name in ids else dtype)
        params[name][...] = start
    return params


def _start(spec, name, shape, quiet, rng):
    last = name.rpartition(".")[2]
    if last == "thresholds":
        return np.full(shape, 1 / spec.experts.n)
    if last in ZEROS or (quiet and name.startswith("router") and last not in ONES):
        return np.zeros(shape)
    if last in ONES:
        norm = {"norm.scale": spec.norm, "experts.norm_scale": spec.experts.norm}.get(name)
        return np.full(shape, 1.0 - (norm.offset if norm else 0.0))
    fan_in = shape[-1] if len(shape) < 2 or name in ("experts.v",) or (spec.experts.kind == "singleton" and name.startswith("experts")) else shape[-2]
    return truncated_normal(rng, shape, np.sqrt(spec.init_scale / fan_in))


def truncated_normal(rng, shape, sd):
    """Normal numbers within two standard deviations: one uniform number each, through the inverse distribution."""
    from scipy import special
    low = special.ndtr(-2.0)
    return sd * special.ndtri(rng.uniform(low, 1 - low, shape))


def draw(spec, n_tokens: int, d_model: int, *, rng=None) -> dict[str, np.ndarray]:
    """Every noise array of a training step, in float64, drawn in this order (those that the layer has).

    ``jitter`` [T, D] uniform in 1 -+ jitter; ``logits_primary`` [T, groups]; ``logits`` [T, E] (standard normal, or Gumbel; [T, K, E]
    Gumbel for SparseMixer); ``heun`` [T, K] uniform; ``accept`` [T] uniform; ``order`` [T] uniform; ``dropout`` [T, K, F]: 0 or 1/(1-p).
    """
    rng, router, experts, found = np.random.default_rng(rng), spec.router, spec.experts, {}
    has = lambda name: getattr(router, name, None)      # noqa: E731
    if has("jitter"):
        found["jitter"] = rng.uniform(1 - router.jitter, 1 + router.jitter, (n_tokens, d_model))
    if isinstance(router, Hierarchical) and router.primary.noise:
        found["logits_primary"] = rng.standard_normal((n_tokens, router.groups))
    if has("select") == "sparsemixer":
        found["logits"] = rng.gumbel(size=(n_tokens, router.k, experts.classes))
        found["heun"] = rng.uniform(size=(n_tokens, router.k))
    elif noise := (router.secondary.noise if isinstance(router, Hierarchical) else has("noise")):
        size = (n_tokens, experts.classes)
        found["logits"] = rng.gumbel(size=size) if noise == "gumbel" else rng.standard_normal(size)
    if has("accept"):
        found["accept"] = rng.uniform(size=n_tokens)
    if spec.capacity is not None and spec.capacity.order == "random":
        found["order"] = rng.uniform(size=n_tokens)
    if experts.dropout:
        kept = rng.uniform(size=(n_tokens, spec.columns, experts.width)) >= experts.dropout
        found["dropout"] = kept / (1 - experts.dropout)
    return found


def silent(spec, n_tokens: int) -> dict[str, Callable[[], np.ndarray]]:
    """What makes the noise of an evaluation step: none on the logits, every second choice accepted that can be, arrival order."""
    router = spec.router
    quiet: dict[str, Callable[[], np.ndarray]] = {"accept": lambda: np.zeros(n_tokens), "order": lambda: np.arange(n_tokens, dtype=np.float64)}
    if isinstance(router, Hierarchical):
        if router.primary.noise:
            quiet["logits_primary"] = lambda: np.zeros((n_tokens, spec.router.groups))
        router = router.secondary
    if getattr(router, "noise", None) == "softplus":
        quiet["logits"] = lambda: np.zeros((n_tokens, spec.experts.n))
    return quiet
