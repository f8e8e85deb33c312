"""Strictly balanced gating at inference: learned thresholds stand in for the batch (Shazeer et al. 2017, appendix F, eq. 19)."""

import numpy as np

from moespec import corpus, indexing, numerics
from moespec.gates._batchwise import require_columns
from moespec.gates._masked import masked_routing, masked_routing_backward, softmax_over_mask
from moespec.op import Arg, Case, Op, Req


def threshold(logits, thresholds, indices=None):
    r"""Give a token every expert whose threshold its score exceeds.

    .. math:: M_{ti} = [G^s_{ti} > T_i], \qquad w_{ti} = \frac{G^s_{ti} M_{ti}}{\sum_j G^s_{tj} M_{tj}}, \qquad G^s = \mathrm{softmax}(l)

    Strictly: a score at its threshold is not enough.  The thresholds are trained by `losses.batchwise_threshold`; here they are
    constant.

    Parameters
    ----------
    logits : (T, E) real
    thresholds : (E,) real
        Constant under differentiation.
    indices : (T, E) integer, optional
        A given mask (replay): column i holds i or -1.

    Returns
    -------
    Routing(indices, weights)
        A column per expert: i or -1.  A token without an expert has weights 0.
    Saved

    Raises
    ------
    ValueError
        A column that holds another id.

    References
    ----------
    Shazeer et al. 2017, eqs 16, 19.
    """
    OP.admit(logits, thresholds, indices)
    probs = numerics.softmax(numerics.widen(logits))
    mask = indexing.decide(probs > numerics.widen(thresholds), None if indices is None else indices >= 0)
    return masked_routing(probs, mask, logits.dtype)


def threshold_backward(saved, dweights):
    r"""The mask is constant.

    .. math:: \overline{G^s}_{ti} = \frac{M_{ti}}{\sum_j G^s_{tj} M_{tj}} \Big( \bar w_{ti} - \sum_j w_{tj} \bar w_{tj} \Big)
    """
    return masked_routing_backward(saved, dweights)


def _check(dims, logits, thresholds, indices):
    require_columns("threshold", indices)


# ---- what is checked -------------------------------------------------------------------------------------------------

def cases(rng):
    for case in corpus.logits(rng):
        experts = case.inputs["logits"].shape[1]
        yield case.add(thresholds=rng.uniform(0, 2 / experts, experts))
    logits = np.zeros((3, 4))
    yield Case("at_the_threshold", {"logits": logits, "thresholds": np.full(4, 0.25)})
    yield Case("all_pass", {"logits": logits, "thresholds": np.full(4, -1.0)})
    yield Case("none_passes", {"logits": logits, "thresholds": np.ones(4)})
    yield Case("given", {"logits": corpus.normal(rng, 3, 4), "thresholds": np.ones(4), "indices": np.array([[0, -1, 2, -1], [-1] * 4, [0, 1, 2, 3]])})


INVALID = (
    (Case("other_experts", {"logits": np.zeros((2, 3)), "thresholds": np.zeros(4)}), ValueError,
     r"^threshold: thresholds has shape \(4,\), but E must be 3"),
    (Case("other_column", {"logits": np.zeros((2, 3)), "thresholds": np.zeros(3), "indices": np.array([[1, 1, 2], [0, 1, -1]])}), ValueError,
     r"^threshold: indices\[0, 0\]=1 must be 0 or -1"),
)


def _extremes(run):
    """A threshold below 0 passes every probability, one of 1 or more passes none."""
    limit, on = np.asarray(run.inputs["thresholds"], float), run.outputs.indices >= 0
    if run.inputs["indices"] is not None:
        return None
    finite = np.isfinite(np.asarray(run.inputs["logits"], float)).all(1, keepdims=True)
    return ~finite | (((limit >= 0) | on) & ((limit < 1.001) | ~on))


REQUIREMENTS = (
    Req("THRESHOLD-1", "A negative threshold passes every token, one above 1 none.", _extremes),
    Req("THRESHOLD-2", "Weights are the softmax over the experts whose threshold was passed.", softmax_over_mask),
    Req("THRESHOLD-3", "A score at its threshold does not pass.",
        lambda r: None if r.case.name != "at_the_threshold" else r.outputs.indices == -1),
)

OP = Op(
    name="gates.threshold",
    inputs=(Arg("logits", "T E"), Arg("thresholds", "E", grad=False), Arg("indices", "T E", "index", of="E", optional=True)),
    outputs=(Arg("indices", "T E", "index", of="E"), Arg("weights", "T E")),
    forward=threshold,
    backward=threshold_backward,
    cases=cases,
    invalid=INVALID,
    requirements=REQUIREMENTS,
    check=_check,
    flops=lambda T, E, **_: (8 * T * E, 8 * T * E),
    refs=("Shazeer et al. 2017, eqs 16, 19",),
)
