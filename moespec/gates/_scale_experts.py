"""Scale weights by a learned number per expert (Gemma 4)."""

from typing import NamedTuple

import numpy as np

from moespec import corpus, indexing
from moespec.numerics import widen
from moespec.op import Arg, Case, Op, Req


class Saved(NamedTuple):
    weights: np.ndarray     # T K
    indices: np.ndarray     # T K
    scale: np.ndarray       # E


def scale_experts(weights, indices, scale):
    r"""Multiply every weight by the scale of its expert.

    .. math:: y_{tj} = w_{tj} \, g_{i_{tj}}

    Parameters
    ----------
    weights : (T, K) real
    indices : (T, K) integer
        -1: the weight becomes 0, whatever it was.
    scale : (E,) real
        A parameter.

    Returns
    -------
    scaled : (T, K) real
        In the dtype of `weights`.
    Saved

    Raises
    ------
    ValueError
        An id outside -1 .. E-1.

    References
    ----------
    Gemma 4 2026 (as in its published checkpoints' code).
    """
    OP.bind(weights, indices, scale)
    scaled = widen(weights) * indexing.take_rows(widen(scale), indices)
    return np.where(indices >= 0, scaled, 0.0).astype(weights.dtype), Saved(weights, indices, scale)


def scale_experts_backward(saved, dscaled):
    r"""An expert's scale gathers from every token that chose it.

    .. math:: \bar w_{tj} = g_{i_{tj}} \bar y_{tj}, \qquad \bar g_e = \sum_{(t, j) : i_{tj} = e} w_{tj} \bar y_{tj}
    """
    d, live = widen(dscaled), saved.indices >= 0
    dweights = np.where(live, d * indexing.take_rows(widen(saved.scale), saved.indices), 0.0)
    dscale = indexing.add_rows(d * widen(saved.weights), saved.indices, len(saved.scale))
    return dweights.astype(saved.weights.dtype), dscale.astype(saved.scale.dtype)


# ---- what is checked -------------------------------------------------------------------------------------------------

def cases(rng):
    for case in corpus.routings(rng):
        shape = case.inputs["indices"].shape
        yield case.add(weights=corpus.integers(rng, *shape), scale=corpus.integers(rng, 8), tags=("exact",))
    yield Case("normal", {"weights": rng.random((6, 2)), "indices": rng.integers(0, 5, (6, 2)), "scale": corpus.normal(rng, 5)})
    yield Case("nan_left_out", {"weights": np.array([[1.0, np.nan]]), "indices": np.array([[1, -1]]), "scale": np.array([np.inf, 2.0])},
               {}, frozenset({"nan", "inf"}))
    yield Case("nan_scale_of_nobody", {"weights": np.ones((2, 1)), "indices": np.array([[1], [0]]), "scale": np.array([2.0, 3.0, np.nan])},
               {}, frozenset({"nan"}))


_RIGHT = {"weights": np.zeros((2, 2)), "indices": np.zeros((2, 2), int), "scale": np.ones(4)}
INVALID = (
    (Case("id_too_large", {**_RIGHT, "indices": np.full((2, 2), 4)}), ValueError, r"^scale_experts: indices holds 4, outside -1 \.\. 3"),
    (Case("other_choices", {**_RIGHT, "indices": np.zeros((2, 3), int)}), ValueError, r"^scale_experts: indices has shape \(2, 3\), but K must be 2"),
)


def _by_loop(run):
    w, ids, g, got = run.inputs["weights"], run.inputs["indices"], run.inputs["scale"], run.outputs.scaled
    for t, j in np.ndindex(ids.shape):
        want = float(w[t, j]) * float(g[ids[t, j]]) if ids[t, j] >= 0 else 0.0
        if not abs(float(got[t, j]) - want) <= 2 * run.unit * abs(want):
            return False
    return True


REQUIREMENTS = (
    Req("SCALE_EXPERTS-1", "A weight is multiplied by the scale of its expert; at -1 it is 0.", _by_loop),
    Req("SCALE_EXPERTS-2", "At -1 the gradient is 0.", lambda r: (r.inputs["indices"] >= 0) | (r.grads["weights"] == 0)),
    Req("SCALE_EXPERTS-3", "The scale of an expert that nobody chose gets gradient 0.",
        lambda r: (indexing.counts(r.inputs["indices"], r.dims.E) > 0) | (r.grads["scale"] == 0)),
)

OP = Op(
    name="gates.scale_experts",
    inputs=(Arg("weights", "T K"), Arg("indices", "T K", "index", of="E"), Arg("scale", "E")),
    outputs=(Arg("scaled", "T K"),),
    forward=scale_experts,
    backward=scale_experts_backward,
    cases=cases,
    invalid=INVALID,
    requirements=REQUIREMENTS,
    flops=lambda T, K, **_: (T * K, 3 * T * K),
    refs=("Gemma 4 2026",),
)
