"""Load balancing over the global batch: counts of all ranks and micro-batches, probabilities of this one (Qiu et al. 2025)."""

import numpy as np

from moespec import corpus
from moespec.losses._balance import invalid_get_none, valid_tokens, weigh_means, weigh_means_backward
from moespec.losses._checks import near
from moespec.losses._cooperation import LOSS
from moespec.numerics import softmax
from moespec.op import Arg, Case, Op, Req


def global_balance(probs, counts, mask=None):
    r"""E times the inner product of the global shares and the local mean probabilities.

    .. math:: L = E \sum_i f_i P_i, \qquad f_i = \frac{n_i}{\sum_j n_j}, \qquad P_i = \frac{1}{|V|} \sum_{t \in V} p_{ti}

    The counts are added up over all ranks and micro-batches that share one update; they bring their own normaliser, so that it
    cannot be that of a single micro-batch.  With the counts of this batch alone it is `load_balance`, if no id is -1.  The mean of
    the losses of equally large micro-batches under common counts is the loss of the whole batch.

    Parameters
    ----------
    probs : (T, E) real
        The router's probabilities over all experts.
    counts : (E,) integer
        Constant under differentiation.
    mask : (T,) bool, optional
        True = the token is valid (belongs to V).

    Returns
    -------
    loss : () real
        In the accumulation dtype; 0 without valid tokens or counts.
    Saved

    Raises
    ------
    ValueError
        A negative count.

    References
    ----------
    Qiu et al. 2025 (global-batch load balancing), section 3.
    """
    dims = OP.admit(probs, counts, mask)
    return weigh_means(probs, dims.E * counts / max(int(counts.sum()), 1), mask)


def global_balance_backward(saved, dloss):
    r"""Through the local means.

    .. math:: \bar p_{ti} = \frac{E f_i}{|V|} [t \in V] \, \bar L
    """
    return weigh_means_backward(saved, dloss)


def _check(dims, probs, counts, mask):
    if counts.size and counts.min() < 0:
        raise ValueError(f"global_balance: counts holds {counts.min()}, wanted at least 0 (counts has shape {counts.shape})")


# ---- what is checked -------------------------------------------------------------------------------------------------

def cases(rng):
    for t, e in ((12, 8), (1, 4), (5, 1), (3, 65)):
        inputs = {"probs": softmax(corpus.normal(rng, t, e)), "counts": rng.integers(0, 100, e)}
        yield Case(f"tokens_{t}_experts_{e}", inputs)
        yield Case(f"tokens_{t}_experts_{e}_masked", {**inputs, "mask": np.arange(t) % 3 == 0})
    uniform = np.full((8, 4), 0.25)
    yield Case("balanced", {"probs": uniform, "counts": np.full(4, 16)}, {}, _EXACT)
    yield Case("collapsed", {"probs": np.eye(4)[[2] * 8], "counts": np.array([0, 0, 64, 0])}, {}, _EXACT)
    yield Case("counts_of_a_larger_batch", {"probs": uniform, "counts": np.array([1024, 2048, 512, 512])}, {}, _EXACT)
    yield Case("no_counts", {"probs": uniform, "counts": np.zeros(4, int)}, {}, _EXACT)
    yield Case("none_valid", {"probs": uniform, "counts": np.full(4, 4), "mask": np.zeros(8, bool)}, {}, _EXACT)
    yield Case("no_tokens", {"probs": np.zeros((0, 4)), "counts": np.full(4, 4)}, {}, frozenset({"empty"}))
    spoilt = np.full((4, 4), 0.25)
    spoilt[1] = np.nan
    yield Case("nan_where_masked", {"probs": spoilt, "counts": np.arange(4), "mask": np.array([True, False, True, True])}, {}, frozenset({"nan"}))


_EXACT = frozenset({"exact"})

INVALID = (
    (Case("count_negative", {"probs": np.zeros((2, 2)), "counts": np.array([-1, 2])}), ValueError,
     r"^global_balance: counts holds -1, wanted at least 0 \(counts has shape \(2,\)\)"),
    (Case("other_experts", {"probs": np.zeros((2, 2)), "counts": np.zeros(3, int)}), ValueError,
     r"^global_balance: counts has shape \(3,\), but E must be 2"),
)


def _by_hand(run):
    p, n, e = np.asarray(run.inputs["probs"], float), run.inputs["counts"].tolist(), run.dims.E
    valid = valid_tokens(run)
    want = sum(e * n[i] / max(sum(n), 1) * sum(p[t, i] for t in valid) / max(len(valid), 1) for i in range(e))
    return near(run, run.outputs.loss, want)


BY_NAME = {"balanced": 1, "counts_of_a_larger_batch": 1, "collapsed": 4}

REQUIREMENTS = (
    Req("GLOBAL_BALANCE-1", "The loss is E times the sum of global share times local mean probability.", _by_hand),
    Req("GLOBAL_BALANCE-2", "Counts of a larger batch change nothing but the shares: balance is 1, collapse E.",
        lambda r: None if r.case.name not in BY_NAME else r.outputs.loss == BY_NAME[r.case.name]),
    Req("GLOBAL_BALANCE-3", "A token that is not valid gets gradient 0.", invalid_get_none),
)

OP = Op(
    name="losses.global_balance",
    inputs=(Arg("probs", "T E"), Arg("counts", "E", "count"), Arg("mask", "T", "mask", optional=True)),
    outputs=(LOSS,),
    forward=global_balance,
    backward=global_balance_backward,
    cases=cases,
    invalid=INVALID,
    requirements=REQUIREMENTS,
    check=_check,
    flops=lambda T, E, **_: (2 * T * E + 3 * E, 2 * T * E),
    refs=("Qiu et al. 2025, section 3",),
)
