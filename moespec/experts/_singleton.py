"""Experts of one neuron, a great many of them, each looked up by its id."""

from typing import NamedTuple

import numpy as np

from moespec import corpus, indexing
from moespec.experts import _dense as dense
from moespec.experts import _ids
from moespec.experts._activations import ACTIVATIONS, require_activation
from moespec.numerics import stored, widen
from moespec.op import Arg, Case, Op, Req


class Saved(NamedTuple):
    inputs: tuple           # x, weights, w_in, w_out
    indices: np.ndarray     # T K
    g: np.ndarray           # T K, pre-activations, in the accumulation dtype; 0 where the id is -1
    activation: str


def singleton(x, indices, weights, w_in, w_out, *, activation="gelu"):
    r"""Send every token through the neurons that it chose.

    .. math:: g_{tj} = \langle w^\mathrm{in}_{i_{tj}}, x_t \rangle, \qquad
              y_t = \sum_{j : i_{tj} \ge 0} w_{tj} \, f(g_{tj}) \, w^\mathrm{out}_{i_{tj}}

    The experts are rows of two embeddings: one input vector and one output vector each, no biases.  An id of -1 contributes
    nothing and its weight gets gradient 0; an id may repeat, and both contribute.  A token without an expert gives 0, whatever it
    holds.  The heads of a retrieval with several are further choices of the same token.

    Parameters
    ----------
    x : (T, D) real
    indices : (T, K) integer
        -1 .. E-1.
    weights : (T, K) real
    w_in, w_out : (E, D) real
    activation : str
        f, a name in ACTIVATIONS.

    Returns
    -------
    y : (T, D) real
        In the dtype of `x`, accumulated in float32 at least.
    Saved
        The inputs and g; f(g) is computed again in backward.

    Raises
    ------
    ValueError
        An id outside -1 .. E-1; an unknown activation.

    Notes
    -----
    Stored points (`numerics.stored`): g, h = f(g), c = w h; dc, dg.

    References
    ----------
    He 2024 (PEER).
    """
    OP.admit(x, indices, weights, w_in, w_out, activation=activation)
    live = indices >= 0
    each = np.einsum("td,tkd->tk", widen(x), indexing.take_rows(widen(w_in), indices))
    saved = Saved((x, weights, w_in, w_out), indices, stored(np.where(live, each, 0.0), "g"), activation)
    c = stored(np.where(live, widen(weights) * _hidden(saved), 0.0), "c")
    y = np.einsum("tk,tkd->td", c, indexing.take_rows(widen(w_out), indices))
    return y.astype(x.dtype), saved


def _hidden(saved):
    return stored(ACTIVATIONS[saved.activation].value(saved.g), "h")


def singleton_backward(saved, dy):
    r"""An expert that nobody chose gets gradients of exactly 0.

    .. math:: \bar c_{tj} = \langle w^\mathrm{out}_{i_{tj}}, \bar y_t \rangle, \quad \bar w_{tj} = \bar c_{tj} f(g_{tj}), \quad
              \bar g_{tj} = \bar c_{tj} w_{tj} f'(g_{tj}), \quad \bar x_t = \sum_j \bar g_{tj} w^\mathrm{in}_{i_{tj}}

    .. math:: \bar w^\mathrm{in}_e = \sum_{tj : i_{tj} = e} \bar g_{tj} x_t, \qquad
              \bar w^\mathrm{out}_e = \sum_{tj : i_{tj} = e} w_{tj} f(g_{tj}) \, \bar y_t
    """
    x, w, w_in, w_out = map(widen, saved.inputs)
    ids, d, h = saved.indices, widen(dy), _hidden(saved)
    live = ids >= 0
    dc = stored(np.einsum("td,tkd->tk", d, indexing.take_rows(w_out, ids)), "dc")
    dg = stored(np.where(live, dc * w * ACTIVATIONS[saved.activation].slope(saved.g), 0.0), "dg")
    c = stored(np.where(live, w * h, 0.0), "c")
    dx = np.einsum("tk,tkd->td", dg, indexing.take_rows(w_in, ids))
    dw_in = indexing.add_rows(dg[:, :, None] * x[:, None], ids, len(w_in))
    dw_out = indexing.add_rows(c[:, :, None] * d[:, None], ids, len(w_out))
    grads = dx, np.where(live, dc * h, 0.0), dw_in, dw_out
    return tuple(g.astype(i.dtype) for g, i in zip(grads, saved.inputs, strict=True))


def _check(dims, x, *_, activation="gelu"):
    require_activation("singleton", activation, f"x has shape {tuple(x.shape)}")


# ---- what is checked -------------------------------------------------------------------------------------------------

def cases(rng):
    for case in _ids.tokens(rng, w_in=(8, 3), w_out=(8, 3)):
        exact = "exact" in case.tags
        yield case._replace(tags=case.tags | {"kink"}).with_(activation="relu") if exact else case
    for activation in ACTIVATIONS:
        yield next(_ids.tokens(rng, w_in=(8, 3), w_out=(8, 3))).with_(activation, activation=activation)
    ids = rng.integers(-1, 1025, (17, 33))
    yield Case("many_experts", {"x": corpus.normal(rng, 17, 5), "indices": ids, "weights": corpus.normal(rng, 17, 33) / 33,
                                "w_in": corpus.normal(rng, 1025, 5), "w_out": corpus.normal(rng, 1025, 5)})
    inputs = dict(next(_ids.tokens(rng, w_in=(8, 3), w_out=(8, 3))).inputs)
    inputs["x"][2], inputs["indices"][2] = np.nan, -1
    yield Case("nan_without_expert", inputs, {}, frozenset({"nan"}))
    few = {"x": corpus.integers(rng, 300, 2), "indices": np.zeros((300, 1), int), "weights": corpus.integers(rng, 300, 1),
           "w_in": corpus.integers(rng, 2, 2), "w_out": corpus.integers(rng, 2, 2)}
    yield Case("busy_expert", few, {"activation": "identity"}, frozenset({"exact"}))
    ballast = {"x": corpus.integers(rng, 3, 6), "indices": np.array([[0, 1], [1, 1], [2, -1]]), "weights": corpus.integers(rng, 3, 2),
               "w_in": corpus.integers(rng, 3, 6), "w_out": corpus.integers(rng, 3, 6)}
    ballast["x"][:, [0, -1]], ballast["w_in"][:, 0], ballast["w_in"][:, -1] = 64, 64, -64
    yield Case("ballast_features", ballast, {"activation": "identity"}, frozenset({"exact"}))


RIGHT = {"x": np.zeros((4, 3)), "indices": np.zeros((4, 2), int), "weights": np.zeros((4, 2)), "w_in": np.zeros((8, 3)),
         "w_out": np.zeros((8, 3))}
INVALID = (
    (Case("id_too_large", {**RIGHT, "indices": np.full((4, 2), 8)}), ValueError, r"^singleton: indices holds 8, outside -1 \.\. 7"),
    (Case("id_below", {**RIGHT, "indices": np.full((4, 2), -2)}), ValueError, r"^singleton: indices holds -2, outside -1 \.\. 7"),
    (Case("unknown_activation", RIGHT, {"activation": "swish"}), ValueError,
     r"^singleton: activation='swish' is not one of identity, relu, .* \(x has shape \(4, 3\)\)"),
    (Case("other_experts", {**RIGHT, "w_out": np.zeros((7, 3))}), ValueError,
     r"^singleton: w_out has shape \(7, 3\), but E must be 8 \(E=8, w_in has shape \(8, 3\)\)"),
    (Case("other_width", {**RIGHT, "w_in": np.zeros((8, 4))}), ValueError, r"^singleton: w_in has shape \(8, 4\), but D must be 3"),
)


def _everybody(run, f, of=lambda x: x):
    """[T, D]: all E neurons of every token, weighted by a dense matrix of weights: the sums over all its choices."""
    v, ids = dense.reals(run.inputs, of), run.inputs["indices"]
    hot = ids[:, :, None] == np.arange(run.dims.E)
    x = np.where(hot.any((1, 2))[:, None], v["x"], 0.0)
    return (np.einsum("tk,tke->te", np.where(ids < 0, 0.0, v["weights"]), hot) * f(x @ v["w_in"].T)) @ v["w_out"]


def _activation(run):
    return run.attrs.get("activation", "gelu")


def _size(run):
    return _everybody(run, dense.bounding(_activation(run)), np.abs)


def _missing(run):
    missing = run.inputs["indices"] < 0
    lonely = missing.all(1)
    return [np.all(run.grads["weights"][missing] == 0), np.all(run.outputs.y[lonely] == 0), np.all(run.grads["x"][lonely] == 0)]


def _idle(run):
    idle = ~np.isin(np.arange(run.dims.E), run.inputs["indices"])
    return [np.all(run.grads[n][idle] == 0) for n in ("w_in", "w_out")]


def _choices_reversed(run):
    y = run.rerun(indices=np.flip(run.inputs["indices"], 1), weights=np.flip(run.inputs["weights"], 1)).y
    return _ids.near(run, y, np.asarray(run.outputs.y, float), _size(run), 8 * (run.dims.D + run.dims.K + 8))


REQUIREMENTS = (
    Req("SINGLETON-1", "It is the wide layer of all E neurons, each weighted by the sum of its weights.",
        lambda r: _ids.near(r, r.outputs.y, _everybody(r, ACTIVATIONS[_activation(r)].value), _size(r), 8 * (r.dims.D + r.dims.K + 8))),
    Req("SINGLETON-2", "An id of -1 contributes nothing and its weight gets gradient 0; a token without an expert gives 0.", _missing),
    Req("SINGLETON-3", "An expert that nobody chose gets gradients of exactly 0.", _idle),
    Req("SINGLETON-4", "The order of the choices does not matter.", _choices_reversed),
)

OP = Op(
    name="experts.singleton",
    inputs=(Arg("x", "T D"), Arg("indices", "T K", "index", of="E"), Arg("weights", "T K"), Arg("w_in", "E D"), Arg("w_out", "E D")),
    outputs=(Arg("y", "T D"),),
    forward=singleton,
    backward=singleton_backward,
    cases=cases,
    invalid=INVALID,
    requirements=REQUIREMENTS,
    check=_check,
    flops=lambda T, K, D, **_: (T * K * (4 * D + 5), T * K * (8 * D + 10)),
    refs=("He 2024 (PEER)",),
)
