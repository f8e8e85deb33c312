"""The balance loss of several layers taken together, as most models in transformers compute it."""

import numpy as np

from moespec import corpus
from moespec.losses._balance import fractions, require_normalizer, weigh_means, weigh_means_backward
from moespec.losses._checks import near
from moespec.losses._cooperation import LOSS
from moespec.numerics import softmax
from moespec.op import Arg, Case, Op, Req


def pooled_balance(probs, indices, mask=None, *, normalizer="tokens"):
    r"""The load-balancing loss of the rows of all layers, concatenated: one count, one mean.

    .. math:: L = E \sum_i f_i P_i, \qquad f_i = \frac{1}{|V|} \sum_{(\lambda, t) \in V, j} [i_{\lambda t j} = i], \qquad
              P_i = \frac{1}{|V|} \sum_{(\lambda, t) \in V} p_{\lambda t i}

    K at perfect balance, since the counts are divided by tokens; with the normaliser ``assignments`` 1.  Imbalances of different
    layers cancel: two layers of which each sends everything to its own expert can look balanced.  The sum of `load_balance`
    over layers does not have this flaw; this form is here because models were trained with it.

    Parameters
    ----------
    probs : (M, T, E) real
        A softmax of the logits of each of M layers.
    indices : (M, T, K) integer
        The top k of `probs` there, whatever the router itself selected by; -1 adds to no count.
    mask : (M, T) bool, optional
        True = the row is valid (belongs to V); a mask of tokens is repeated for every layer.
    normalizer : {"tokens", "assignments"}

    Returns
    -------
    loss : () real
        In the accumulation dtype; 0 if no token is valid.
    Saved

    Raises
    ------
    ValueError
        An id outside -1 .. E-1; an unknown normaliser.

    References
    ----------
    transformers, load_balancing_loss_func of Mixtral (tokens) and of Doge (assignments).
    """
    dims = OP.admit(probs, indices, mask, normalizer=normalizer)
    rows, ids = probs.reshape(dims.M * dims.T, dims.E), indices.reshape(dims.M * dims.T, dims.K)
    valid = None if mask is None else mask.ravel()
    loss, saved = weigh_means(rows, dims.E * fractions(ids, dims.E, valid, normalizer), valid)
    return loss, (saved, probs.shape)


def pooled_balance_backward(saved, dloss):
    r"""Through P alone.

    .. math:: \bar p_{\lambda t i} = \frac{E f_i}{|V|} [(\lambda, t) \in V] \, \bar L
    """
    inner, shape = saved
    return weigh_means_backward(inner, dloss).reshape(shape)


def _check(dims, probs, indices, mask, *, normalizer="tokens"):
    require_normalizer("pooled_balance", normalizer, indices.shape)


# ---- what is checked -------------------------------------------------------------------------------------------------

def cases(rng):
    for layers, t, e, k in ((1, 6, 4, 1), (3, 5, 8, 2), (2, 1, 4, 4), (2, 7, 1, 1)):
        inputs = {"probs": softmax(corpus.normal(rng, layers, t, e)), "indices": rng.integers(-1, e, (layers, t, k))}
        masked = {**inputs, "mask": np.arange(layers * t).reshape(layers, t) % 2 == 0}
        for normalizer in ("tokens", "assignments"):
            yield Case(f"layers_{layers}_tokens_{t}_{normalizer}", inputs, {"normalizer": normalizer})
            yield Case(f"layers_{layers}_tokens_{t}_{normalizer}_masked", masked, {"normalizer": normalizer})
    uniform = {"probs": np.full((2, 8, 4), 0.25), "indices": np.arange(32).reshape(2, 8, 2) % 4}
    yield Case("balanced", uniform, {}, _EXACT)
    yield Case("balanced_assignments", uniform, {"normalizer": "assignments"}, _EXACT)
    opposite = {"probs": np.eye(2)[[[0] * 4, [1] * 4]], "indices": np.array([[[0]] * 4, [[1]] * 4])}
    yield Case("imbalances_that_cancel", opposite, {}, _EXACT)
    yield Case("no_tokens", {"probs": np.zeros((2, 0, 4)), "indices": np.zeros((2, 0, 2), int)}, {}, frozenset({"empty"}))
    yield Case("none_valid", {**uniform, "mask": np.zeros((2, 8), bool)}, {}, _EXACT)


_EXACT = frozenset({"exact"})

INVALID = (
    (Case("one_layer_flat", {"probs": np.zeros((2, 4)), "indices": np.zeros((2, 1), int)}), ValueError,
     r"^pooled_balance: probs has shape \(2, 4\), wanted 3 dimensions"),
    (Case("other_layers", {"probs": np.zeros((2, 3, 4)), "indices": np.zeros((1, 3, 1), int)}), ValueError,
     r"^pooled_balance: indices has shape \(1, 3, 1\), but M must be 2"),
    (Case("id_too_large", {"probs": np.zeros((1, 2, 4)), "indices": np.full((1, 2, 1), 4)}), ValueError,
     r"^pooled_balance: indices holds 4, outside -1 \.\. 3"),
    (Case("normalizer_unknown", {"probs": np.zeros((1, 2, 4)), "indices": np.zeros((1, 2, 1), int)}, {"normalizer": "layers"}), ValueError,
     r"^pooled_balance: normalizer='layers' is not one of assignments, tokens"),
)


def _by_hand(run):
    p, ids, mask = np.asarray(run.inputs["probs"], float), run.inputs["indices"], run.inputs["mask"]
    rows = [(m, t) for m in range(run.dims.M) for t in range(run.dims.T) if mask is None or mask[m, t]]
    n, per = max(len(rows), 1), run.dims.K if run.attrs.get("normalizer") == "assignments" else 1
    want = sum(run.dims.E * sum(int((ids[m, t] == i).sum()) for m, t in rows) / (n * per) * sum(p[m, t, i] for m, t in rows) / n
               for i in range(run.dims.E))
    return near(run, run.outputs.loss, want)


BY_NAME = {"balanced": 2, "balanced_assignments": 1, "imbalances_that_cancel": 1}

REQUIREMENTS = (
    Req("POOLED_BALANCE-1", "The loss is E times share times mean probability over the rows of all layers.", _by_hand),
    Req("POOLED_BALANCE-2", "K at perfect balance, 1 by assignments; two layers that collapse onto different experts look balanced.",
        lambda r: None if r.case.name not in BY_NAME else r.outputs.loss == BY_NAME[r.case.name]),
    Req("POOLED_BALANCE-3", "A row that is not valid gets gradient 0.",
        lambda r: None if r.inputs["mask"] is None else r.inputs["mask"][:, :, None] | (r.grads["probs"] == 0)),
)

OP = Op(
    name="losses.pooled_balance",
    inputs=(Arg("probs", "M T E"), Arg("indices", "M T K", "index", of="E"), Arg("mask", "M T", "mask", optional=True)),
    outputs=(LOSS,),
    forward=pooled_balance,
    backward=pooled_balance_backward,
    cases=cases,
    invalid=INVALID,
    requirements=REQUIREMENTS,
    check=_check,
    flops=lambda M, T, E, K, **_: (M * T * (K + 2 * E), 2 * M * T * E),
    refs=("transformers, load_balancing_loss_func",),
)
