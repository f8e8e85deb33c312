"""Quantile balancing: the bias that would have given every expert its share of this batch (Megatron-LM)."""

import numpy as np

from moespec import corpus
from moespec.numerics import widen
from moespec.op import Arg, Case, Op, Req


def quantile_bias(scores, bias, *, k):
    r"""One step of dual coordinate descent on the balanced assignment.

    .. math:: \alpha_t = \text{the } (k+1)\text{-th largest of } s_{ti} + b_i \text{ over } i, \qquad
              b_i \leftarrow - \text{the } (m+1)\text{-th largest of } s_{ti} - \alpha_t \text{ over } t, \qquad m = \lfloor k T / E \rfloor

    The threshold of a token is its best biased score that was not selected; with the new bias an expert is above it for at most m
    tokens, and at it or above for more than m.  The sign is that of every other bias here: it is added to the scores (Megatron subtracts
    its beta, the negative of it, and averages it over steps).  NaN is the largest, as everywhere.  No gradient.

    Parameters
    ----------
    scores : (T, E) real
    bias : (E,) real
        The bias that the batch was routed with.
    k : int
        Experts per token, 1 <= k < E.

    Returns
    -------
    updated : (E,) real
        In the dtype of `bias`; `bias` itself if there are no tokens.
    None

    Raises
    ------
    ValueError
        k outside 1 .. E-1.

    References
    ----------
    Megatron-LM, core/transformer/moe/moe_utils.py (qb_dual_update).
    """
    dims = OP.admit(scores, bias, k=k)
    if dims.T == 0:
        return bias.copy(), None
    s = widen(scores)
    threshold = np.sort(s + widen(bias), axis=1)[:, dims.E - 1 - k]
    column = np.sort(s - threshold[:, None], axis=0)
    return (-column[dims.T - 1 - k * dims.T // dims.E]).astype(bias.dtype), None


def _check(dims, scores, bias, *, k):
    if not 1 <= k < dims.E:
        raise ValueError(f"quantile_bias: k={k} must be in 1 .. {dims.E - 1} (scores has shape {tuple(scores.shape)})")


# ---- what is checked -------------------------------------------------------------------------------------------------

def cases(rng):
    for case in corpus.logits(rng):
        scores = case.inputs["logits"]
        experts = scores.shape[1]
        for k in sorted({1, 2, experts - 1} & set(range(1, experts))):
            yield case._replace(inputs={"scores": scores, "bias": corpus.normal(rng, experts, scale=0.1)}).with_(f"k{k}", k=k)
    yield Case("by_hand", {"scores": np.array([[4.0, 1.0], [3.0, 1.0], [2.0, 1.0], [1.0, 0.0]]), "bias": np.zeros(2)}, {"k": 1}, frozenset({"exact"}))


INVALID = (
    (Case("k_is_all", {"scores": np.zeros((4, 3)), "bias": np.zeros(3)}, {"k": 3}), ValueError,
     r"^quantile_bias: k=3 must be in 1 \.\. 2 \(scores has shape \(4, 3\)\)"),
    (Case("k_zero", {"scores": np.zeros((4, 3)), "bias": np.zeros(3)}, {"k": 0}), ValueError, r"^quantile_bias: k=0 must be in 1 \.\. 2"),
    (Case("other_experts", {"scores": np.zeros((4, 3)), "bias": np.zeros(2)}, {"k": 1}), ValueError,
     r"^quantile_bias: bias has shape \(2,\), but E must be 3"),
)


def _share(run):
    """Around the tokens' old thresholds: at most m tokens above, more than m at it or above."""
    s, b = np.asarray(run.inputs["scores"], float), np.asarray(run.inputs["bias"], float)
    if not run.dims.T or not np.isfinite(s).all():
        return None
    alpha = np.array([sorted(row, reverse=True)[run.dims.k] for row in s + b])
    room, m = (s + np.asarray(run.outputs.updated, float)) - alpha[:, None], run.dims.k * run.dims.T // run.dims.E
    slack = 8 * run.unit * (2 * np.abs(s).max() + np.abs(b).max())
    return ((room > slack).sum(0) <= m) & ((room >= -slack).sum(0) > m)


REQUIREMENTS = (
    Req("QUANTILE_BIAS-1", "With the new bias an expert exceeds the tokens' thresholds for at most floor(k T / E) tokens, and reaches more.", _share),
    Req("QUANTILE_BIAS-2", "By hand: thresholds 1 1 1 0; third largest of 3 2 1 1 is 1, of 0 0 0 0 is 0.",
        lambda r: None if r.case.name != "by_hand" else r.outputs.updated == np.array([-1.0, 0.0])),
    Req("QUANTILE_BIAS-3", "No tokens leave the bias as it is.", lambda r: None if r.dims.T else r.outputs.updated == r.inputs["bias"]),
)

OP = Op(
    name="gates.quantile_bias",
    inputs=(Arg("scores", "T E", grad=False), Arg("bias", "E", grad=False)),
    outputs=(Arg("updated", "E", like="bias"),),
    forward=quantile_bias,
    cases=cases,
    invalid=INVALID,
    requirements=REQUIREMENTS,
    check=_check,
    flops=lambda T, E, **_: (4 * T * E, 0),
    refs=("Megatron-LM, core/transformer/moe/moe_utils.py",),
)
