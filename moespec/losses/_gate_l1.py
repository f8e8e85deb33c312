"""What holds ReLU routing sparse: the L1 norm of the gates, weighted by load, with a coefficient that adapts (Wang et al. 2024, ReMoE)."""

from typing import NamedTuple

import numpy as np

from moespec import corpus, indexing
from moespec.losses._balance import valid_tokens
from moespec.losses._checks import near
from moespec.losses._cooperation import LOSS
from moespec.losses._mean import valid_count
from moespec.numerics import acc, widen
from moespec.op import Arg, Case, Op, Req


class Saved(NamedTuple):
    counts: np.ndarray      # T K   how often the expert is chosen, or 1; 0 = does not count
    valid: int
    wanted: float | None    # E / k
    dtype: np.dtype


def gate_l1(indices, weights, mask=None, *, experts, k=None):
    r"""Mean over tokens of the sum of the gates, plain or weighted by the experts' load.

    .. math:: L = \frac{1}{|V|} \sum_{t \in V, j} f_{i_{tj}} w_{tj}, \qquad
              f_i = \begin{cases} 1 & \text{plain} \\ \frac{E}{k |V|} \#\{(t, j) : t \in V, i_{tj} = i\} & \text{with } k \end{cases}

    Gates of a ReLU are not negative, so their sum is the norm.  With k, the number of experts per token that is wanted, experts that
    are used more are pushed down more: the loss balances as well, and f is 1 where the load is even and k is met.  The load is
    constant under differentiation.  The coefficient follows `sparsity_coefficient`.

    Parameters
    ----------
    indices : (T, K) integer
        -1 does not count, whatever its weight.
    weights : (T, K) real
    mask : (T,) bool, optional
        True = the token is valid (belongs to V).
    experts : int
        E.
    k : int, optional
        Experts per token that are wanted, 1 or more; the plain form by default.

    Returns
    -------
    loss : () real
        In the accumulation dtype; 0 if no token is valid.
    Saved

    Raises
    ------
    ValueError
        An id outside -1 .. E-1; k below 1.

    References
    ----------
    Wang, Zhu and Chen 2024 (ReMoE), eqs 9-11.
    """
    dims = OP.admit(indices, weights, mask, experts=experts, k=k)
    valid = np.where(mask[:, None], indices, -1) if mask is not None else indices
    counts = np.ones(experts) if k is None else indexing.counts(valid, experts)
    saved = Saved(indexing.take_rows(counts, valid), max(valid_count(dims.T, mask), 1), None if k is None else experts / k, weights.dtype)
    return _weigh(widen(weights), saved).sum().astype(acc(weights)), saved


def gate_l1_backward(saved, dloss):
    r"""The load is constant.

    .. math:: \bar w_{tj} = \frac{f_{i_{tj}}}{|V|} [t \in V] \, \bar L
    """
    return _weigh(dloss, saved).astype(saved.dtype)


def _weigh(x, saved):
    """x f / |V|, factor by factor, so that the roundings of every factor are charged."""
    share = x / saved.valid * saved.counts
    return np.where(saved.counts != 0, share if saved.wanted is None else share * saved.wanted / saved.valid, 0.0)


def sparsity_coefficient(coefficient, sparsity, *, target, factor=1.2):
    r"""The coefficient of `gate_l1` for the next step.

    .. math:: \lambda \leftarrow \lambda \cdot \alpha^{\mathrm{sign}(\mathrm{target} - S)}

    It grows while the gates are less sparse than wanted and shrinks while they are more; at the target it stays.

    Parameters
    ----------
    coefficient : float
        lambda, 1e-8 at first in the paper.
    sparsity : float
        S, the share of gates that are 0.
    target : float
        1 - k / E.
    factor : float
        alpha, above 1.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        A coefficient that is not positive (it would never change); a factor that is not above 1.

    References
    ----------
    Wang, Zhu and Chen 2024 (ReMoE), eqs 7-8.
    """
    if not coefficient > 0:
        raise ValueError(f"sparsity_coefficient: coefficient={coefficient} must be above 0")
    if not factor > 1:
        raise ValueError(f"sparsity_coefficient: factor={factor} must be above 1")
    if sparsity == target:
        return coefficient
    return coefficient * factor if sparsity < target else coefficient / factor


def _check(dims, indices, weights, mask, *, experts, k=None):
    indexing.require_ids("gate_l1", indices, experts)
    if k is not None and k < 1:
        raise ValueError(f"gate_l1: k={k} must be at least 1 (indices has shape {indices.shape})")


# ---- what is checked -------------------------------------------------------------------------------------------------

def cases(rng):
    for case in corpus.routings(rng):
        ids = case.inputs["indices"]
        gates = np.abs(corpus.normal(rng, *ids.shape))
        for k in (None, 2):
            yield case.add(weights=gates).with_("plain" if k is None else "by_load", experts=8, k=k)
            yield case.add("masked", weights=gates, mask=np.arange(len(ids)) % 2 == 0).with_("plain" if k is None else "by_load", experts=8, k=k)
    columns = np.array([[0, -1], [0, 1], [-1, 1], [-1, -1]])
    inputs = {"indices": columns, "weights": np.array([[1.0, 0.0], [2.0, 0.5], [0.0, 1.5], [0.0, 0.0]])}
    yield Case("by_hand_plain", inputs, {"experts": 2}, _EXACT)
    yield Case("by_hand_load", inputs, {"experts": 2, "k": 1}, _EXACT)
    yield Case("weights_at_none", {**inputs, "weights": np.full((4, 2), 2.0)}, {"experts": 2}, _EXACT)
    yield Case("none_valid", {**inputs, "mask": np.zeros(4, bool)}, {"experts": 2, "k": 1}, _EXACT)
    spoilt = {**inputs, "weights": np.array([[1.0, np.nan], [2.0, 0.5], [np.nan, 1.5], [0.0, 0.0]])}
    yield Case("nan_at_none", spoilt, {"experts": 2}, frozenset({"nan"}))


_EXACT = frozenset({"exact"})

INVALID = (
    (Case("id_too_large", {"indices": np.full((2, 1), 4), "weights": np.ones((2, 1))}, {"experts": 4}), ValueError,
     r"^gate_l1: indices holds 4, outside -1 \.\. 3 \(indices has shape \(2, 1\)\)"),
    (Case("k_zero", {"indices": np.zeros((2, 1), int), "weights": np.ones((2, 1))}, {"experts": 4, "k": 0}), ValueError,
     r"^gate_l1: k=0 must be at least 1 \(indices has shape \(2, 1\)\)"),
)


def _by_hand(run):
    ids, w, e, k = run.inputs["indices"], np.asarray(run.inputs["weights"], float), run.attrs["experts"], run.attrs.get("k")
    valid = valid_tokens(run)
    n, want = max(len(valid), 1), 0.0
    for i in range(e):
        own = [(t, j) for t in valid for j in range(run.dims.K) if ids[t, j] == i]
        want += (1 if k is None else e * len(own) / (k * n)) * sum(w[t, j] for t, j in own) / n
    return near(run, run.outputs.loss, want)


BY_NAME = {"by_hand_plain": 1.25, "by_hand_load": 1.25, "weights_at_none": 2.0, "none_valid": 0.0, "nan_at_none": 1.25}

REQUIREMENTS = (
    Req("GATE_L1-1", "The loss is the sum over experts of load factor times mean gate, over valid tokens.", _by_hand),
    Req("GATE_L1-2", "Five quarters, plain and where the load is even and k is met; what stands at -1 does not count.",
        lambda r: None if r.case.name not in BY_NAME else r.outputs.loss == BY_NAME[r.case.name]),
    Req("GATE_L1-3", "Gates at -1 and of tokens that are not valid get gradient 0.",
        lambda r: ((r.inputs["indices"] >= 0) & (True if r.inputs["mask"] is None else r.inputs["mask"][:, None])) | (r.grads["weights"] == 0)),
)

OP = Op(
    name="losses.gate_l1",
    inputs=(Arg("indices", "T K", "index", of="E"), Arg("weights", "T K"), Arg("mask", "T", "mask", optional=True)),
    outputs=(LOSS,),
    forward=gate_l1,
    backward=gate_l1_backward,
    cases=cases,
    invalid=INVALID,
    requirements=REQUIREMENTS,
    check=_check,
    flops=lambda T, K, **_: (3 * T * K, T * K),
    refs=("Wang, Zhu and Chen 2024 (ReMoE), eqs 9-11",),
)
