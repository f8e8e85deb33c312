"""The load-balancing loss of Switch Transformers (Fedus et al. 2021, eqs 4-6), for any k."""

import numpy as np

from moespec import corpus
from moespec.losses._balance import fractions, require_normalizer, weigh_means, weigh_means_backward
from moespec.losses._checks import near
from moespec.losses._cooperation import LOSS
from moespec.numerics import softmax
from moespec.op import Arg, Case, Op, Req


def load_balance(probs, indices, mask=None, *, choices=None, normalizer="assignments"):
    r"""E times the inner product of assignment shares and mean probabilities.

    .. math:: L = E \sum_i f_i P_i, \qquad f_i = \frac{1}{|V| K} \#\{(t, j) : t \in V, i_{tj} = i\}, \qquad
              P_i = \frac{1}{|V|} \sum_{t \in V} p_{ti}

    1 at perfect balance, whatever K; E if all probability and all tokens go to one expert (K = 1).  The counts are of the choices
    before any drop, and constant under differentiation.  It can fall below 1: uniform is not its strict minimum.  With `choices`
    only the first so many columns are counted and K is that number: GShard counts first choices (1).  With the normaliser
    ``tokens`` the division by K is left out, as transformers, Flaxformer and MaxText do: K at perfect balance.

    Parameters
    ----------
    probs : (T, E) real
        The router's probabilities over all experts.
    indices : (T, K) integer
        The chosen experts; -1 adds to no count, the normaliser stays \|V\| K.
    mask : (T,) bool, optional
        True = the token is valid (belongs to V).
    choices : int, optional
        Columns of `indices` to count, 1 .. K; all by default.
    normalizer : {"assignments", "tokens"}

    Returns
    -------
    loss : () real
        In the accumulation dtype; 0 if no token is valid.
    Saved
        E f, and each token's share of the mean.

    Raises
    ------
    ValueError
        An id outside -1 .. E-1; `choices` out of range; an unknown normaliser.

    References
    ----------
    Fedus et al. 2021, eqs 4-6 (alpha is the layer's coefficient); Lepikhin et al. 2020 print it without the factor E^2.

    Examples
    --------
    >>> import numpy as np
    >>> from moespec import losses
    >>> even, _ = losses.load_balance(np.full((4, 2), 0.5), np.array([[0], [1], [0], [1]]))
    >>> one, _ = losses.load_balance(np.array([[1.0, 0.0]] * 4), np.array([[0]] * 4))
    >>> float(even), float(one)
    (1.0, 2.0)
    """
    dims = OP.admit(probs, indices, mask, choices=choices, normalizer=normalizer)
    return weigh_means(probs, dims.E * fractions(indices[:, :choices], dims.E, mask, normalizer), mask)


def load_balance_backward(saved, dloss):
    r"""Through P alone.

    .. math:: \bar p_{ti} = \frac{E f_i}{|V|} [t \in V] \, \bar L
    """
    return weigh_means_backward(saved, dloss)


def _check(dims, probs, indices, mask, *, choices=None, normalizer="assignments"):
    if choices is not None and not min(1, dims.K) <= choices <= dims.K:
        raise ValueError(f"load_balance: choices={choices} must be in 1 .. {dims.K} (indices has shape {indices.shape})")
    require_normalizer("load_balance", normalizer, indices.shape)


# ---- what is checked -------------------------------------------------------------------------------------------------

def cases(rng):
    for case in corpus.routings(rng):
        t = len(case.inputs["indices"])
        probs = softmax(corpus.normal(rng, t, 8)) if t else np.zeros((0, 8))
        yield case.add(probs=probs)
        yield case.add("masked", probs=probs, mask=rng.random(t) < 0.6)
        yield case.add("per_token", probs=probs, mask=rng.random(t) < 0.6).with_(normalizer="tokens")
    uniform = {"probs": np.full((8, 4), 0.25), "indices": np.arange(16).reshape(8, 2) % 4}
    yield Case("balanced", uniform, {}, frozenset({"exact"}))
    yield Case("balanced_per_token", uniform, {"normalizer": "tokens"}, frozenset({"exact"}))
    yield Case("collapsed", {"probs": np.eye(4)[[2] * 8], "indices": np.full((8, 1), 2)}, {}, frozenset({"exact"}))
    yield Case("first_choices", {"probs": softmax(corpus.normal(rng, 6, 4)), "indices": rng.integers(-1, 4, (6, 3))}, {"choices": 1})
    yield Case("none_valid", {**uniform, "mask": np.zeros(8, bool)}, {}, frozenset({"exact"}))
    yield Case("half_valid", {**uniform, "mask": np.arange(8) % 2 == 0}, {}, frozenset({"exact"}))
    spoilt = np.full((4, 4), 0.25)
    spoilt[1] = np.nan
    yield Case("nan_where_masked", {"probs": spoilt, "indices": np.zeros((4, 1), int), "mask": np.array([True, False, True, True])}, {},
               frozenset({"nan"}))


INVALID = (
    (Case("id_too_large", {"probs": np.zeros((2, 4)), "indices": np.full((2, 1), 4)}), ValueError,
     r"load_balance: indices holds 4, outside -1 \.\. 3 \(indices has shape \(2, 1\)\)"),
    (Case("choices_above_k", {"probs": np.zeros((2, 4)), "indices": np.zeros((2, 1), int)}, {"choices": 2}), ValueError,
     r"load_balance: choices=2 must be in 1 \.\. 1 \(indices has shape \(2, 1\)\)"),
    (Case("mask_of_integers", {"probs": np.zeros((2, 4)), "indices": np.zeros((2, 1), int), "mask": np.ones(2, int)}), TypeError,
     r"load_balance: mask has dtype int64, wanted bool"),
    (Case("normalizer_unknown", {"probs": np.zeros((2, 4)), "indices": np.zeros((2, 1), int)}, {"normalizer": "experts"}), ValueError,
     r"load_balance: normalizer='experts' is not one of assignments, tokens \(indices has shape \(2, 1\)\)"),
)


def _by_hand(run):
    p, ids, e = np.asarray(run.inputs["probs"], float), run.inputs["indices"], run.dims.E
    valid = [t for t in range(run.dims.T) if run.inputs["mask"] is None or run.inputs["mask"][t]]
    n, k = max(len(valid), 1), run.attrs.get("choices") or run.dims.K
    per = k if run.attrs.get("normalizer") == "tokens" else 1
    want = per * e * sum(sum(int((ids[t, :k] == i).sum()) for t in valid) / (n * k) * sum(p[t, i] for t in valid) / n for i in range(e))
    return near(run, run.outputs.loss, want)


REQUIREMENTS = (
    Req("LOAD_BALANCE-1", "The loss is E times the sum of assignment share times mean probability, over valid tokens.", _by_hand),
    Req("LOAD_BALANCE-2", "A token that is not valid gets gradient 0.",
        lambda r: None if r.inputs["mask"] is None else r.inputs["mask"][:, None] | (r.grads["probs"] == 0)),
    Req("LOAD_BALANCE-3", "An expert that nobody chose gets gradient 0.",
        lambda r: np.isin(np.arange(r.dims.E), r.inputs["indices"]) | (r.grads["probs"] == 0)),
    Req("LOAD_BALANCE-4", "At perfect balance the loss is 1, and K with the normaliser tokens.",
        lambda r: {"balanced": r.outputs.loss == 1, "half_valid": r.outputs.loss == 1, "balanced_per_token": r.outputs.loss == 2,
                   "collapsed": r.outputs.loss == 4}.get(r.case.name)),
)

OP = Op(
    name="losses.load_balance",
    inputs=(Arg("probs", "T E"), Arg("indices", "T K", "index", of="E"), Arg("mask", "T", "mask", optional=True)),
    outputs=(LOSS,),
    forward=load_balance,
    backward=load_balance_backward,
    cases=cases,
    invalid=INVALID,
    requirements=REQUIREMENTS,
    check=_check,
    flops=lambda T, E, K, **_: (T * K + 2 * T * E + 3 * E, 2 * T * E),
    refs=("Fedus et al. 2021, eqs 4-6",),
)
