"""Constant experts: a learned vector in place of a network, mixed with the token."""

from typing import NamedTuple

import numpy as np

from moespec import indexing, numerics
from moespec.experts import _ids
from moespec.numerics import widen
from moespec.op import Arg, Case, Op, Req


class Saved(NamedTuple):
    inputs: tuple           # x, weights, w_mix, v
    z: np.ndarray           # T K    which constant expert, -1 = none
    shares: np.ndarray      # T K 2  a


def constant(x, indices, weights, w_mix, v, *, first):
    r"""What the constant experts give: id `first` + z is the expert z of Z.

    .. math:: y_t = \sum_{j : z_{tj} \ge 0} w_{tj} \, (a_{tj1} x_t + a_{tj2} v_{z_{tj}}), \qquad
              a_{tj} = \mathrm{softmax}(x_t W^\mathrm{mix}_{z_{tj}}), \qquad z_{tj} = i_{tj} - \mathrm{first} \in 0 .. Z - 1

    All other ids, -1 among them, contribute nothing.  A token without a constant expert gives 0, whatever it holds.

    Parameters
    ----------
    x : (T, D) real
    indices : (T, K) integer
        -1 = none; an id may repeat, and both contribute.
    weights : (T, K) real
    w_mix : (Z, D, 2) real
        To the shares of the token and of the constant.
    v : (Z, D) real
    first : int
        The id of the first constant expert, at least 0.

    Returns
    -------
    y : (T, D) real
        In the dtype of `x`, computed in float32 at least, added up in ascending order of choice.
    Saved
        The inputs, the shares.

    Raises
    ------
    ValueError
        An id below -1; `first` below 0.

    References
    ----------
    Jin et al. 2024 (MoE++).
    """
    dims = OP.admit(x, indices, weights, w_mix, v, first=first)
    z = np.where(_ids.within(indices, first, first + dims.Z), indices - first, -1)
    live = (z >= 0)[:, :, None]
    logits = np.einsum("td,tkdc->tkc", widen(x), indexing.take_rows(widen(w_mix), z))
    shares = numerics.softmax(np.where(live, logits, 0.0))
    saved = Saved((x, weights, w_mix, v), z, shares)
    y = np.where(live, widen(weights)[:, :, None] * _mixed(saved), 0.0).sum(1)
    return y.astype(x.dtype), saved


def _mixed(saved):
    """[T, K, D]: what the expert of every choice gives, without its weight."""
    x, _, _, v = map(widen, saved.inputs)
    return saved.shares[:, :, :1] * x[:, None] + saved.shares[:, :, 1:] * indexing.take_rows(v, saved.z)


def constant_backward(saved, dy):
    r"""With o the mixture of a choice; experts that nobody chose get exactly 0.

    .. math:: \bar w_{tj} = \langle o_{tj}, \bar y_t \rangle, \quad \bar o_{tj} = w_{tj} \bar y_t, \quad
              \bar a_{tj} = (\langle x_t, \bar o_{tj} \rangle, \langle v_z, \bar o_{tj} \rangle), \quad
              \bar l_{tj} = a_{tj} \odot (\bar a_{tj} - \langle a_{tj}, \bar a_{tj} \rangle)

    .. math:: \bar x_t = \sum_j a_{tj1} \bar o_{tj} + W^\mathrm{mix}_z \bar l_{tj}, \quad
              \bar W^\mathrm{mix}_z = \sum_{tj} x_t \bar l_{tj}^T, \quad \bar v_z = \sum_{tj} a_{tj2} \bar o_{tj}
    """
    x, w, w_mix, v = map(widen, saved.inputs)
    z, a, d = saved.z, saved.shares, widen(dy)[:, None]
    live = (z >= 0)[:, :, None]
    dweights = np.where(live, _mixed(saved) * d, 0.0).sum(2)
    do = np.where(live, w[:, :, None] * d, 0.0)
    da = np.stack([(x[:, None] * do).sum(2), (indexing.take_rows(v, z) * do).sum(2)], 2)
    dl = np.where(live, a * (da - (da * a).sum(2, keepdims=True)), 0.0)
    dx = (a[:, :, :1] * do).sum(1) + np.einsum("tkc,tkdc->td", dl, indexing.take_rows(w_mix, z))
    dw_mix = indexing.add_rows(x[:, None, :, None] * dl[:, :, None], z, len(v))
    grads = dx, dweights, dw_mix, indexing.add_rows(a[:, :, 1:] * do, z, len(v))
    return tuple(g.astype(i.dtype) for g, i in zip(grads, saved.inputs, strict=True))


def _check(dims, x, indices, *_, first):
    _ids.require_first("constant", indices, first)


# ---- what is checked -------------------------------------------------------------------------------------------------

def cases(rng):
    for case in _ids.tokens(rng, w_mix=(3, 3, 2), v=(3, 3)):
        if "exact" in case.tags:                                                    # shares of 1/2: softmax rounds others
            yield case.add("even", w_mix=np.zeros((3, 3, 2))).with_(first=2)
        else:
            nobody = not _ids.within(case.inputs["indices"], 2, 5).any()
            yield case._replace(tags=case.tags | ({"exact"} if nobody else set())).with_(first=2)
    far = dict(next(_ids.tokens(rng, w_mix=(8, 3, 2), v=(8, 3))).inputs)
    far["w_mix"][::4] *= 300                                                        # one share is 0, exp would overflow
    yield Case("saturated", far, {"first": 0}, frozenset({"steep"}))
    spoilt = dict(next(_ids.tokens(rng, w_mix=(1, 3, 2), v=(1, 3))).inputs)
    spoilt["x"][2], spoilt["indices"][2], spoilt["indices"][3] = np.nan, [0, 1], [7, 7]
    yield Case("nan_without_constant", spoilt, {"first": 7}, frozenset({"nan"}))


RIGHT = {"x": np.zeros((4, 3)), "indices": np.zeros((4, 2), int), "weights": np.zeros((4, 2)), "w_mix": np.zeros((2, 3, 2)),
         "v": np.zeros((2, 3))}
INVALID = (
    *_ids.first_errors("constant", **RIGHT),
    (Case("three_shares", {**RIGHT, "w_mix": np.zeros((2, 3, 3))}, {"first": 0}), ValueError,
     r"^constant: w_mix has shape \(2, 3, 3\), but 2 must be 2"),
    (Case("other_number", {**RIGHT, "v": np.zeros((3, 3))}, {"first": 0}), ValueError,
     r"^constant: v has shape \(3, 3\), but Z must be 2 \(Z=2, w_mix has shape \(2, 3, 2\)\)"),
)


def _chosen(run):
    return np.isin(run.inputs["indices"] - run.attrs["first"], np.arange(run.dims.Z))


def _each_choice(run):
    """Choice by choice, with the share of the constant as a sigmoid of the difference of its two logits."""
    v = {n: np.asarray(x, float) for n, x in run.inputs.items()}
    want, size = np.zeros(v["x"].shape), np.zeros(v["x"].shape)
    for t, j in np.argwhere(_chosen(run)):
        x, w, c = v["x"][t], v["weights"][t, j], v["v"][int(v["indices"][t, j]) - run.attrs["first"]]
        mix = v["w_mix"][int(v["indices"][t, j]) - run.attrs["first"]]
        share = 1 / (1 + np.exp(x @ (mix[:, 0] - mix[:, 1])))
        want[t] += w * (x + share * (c - x))
        size[t] += np.abs(w) * (np.abs(x) + np.abs(c)) * (1 + np.abs(x) @ np.abs(mix).sum(1))
    return _ids.near(run, run.outputs.y, want, size, 8 * (run.dims.D + run.dims.K + 8))


def _even(run):
    """Without w_mix a copy expert and the constant, half and half."""
    x, c, w = (np.asarray(run.inputs[n], float) for n in ("x", "v", "weights"))
    y = run.rerun(w_mix=np.zeros((run.dims.Z, run.dims.D, 2))).y
    z, w = run.inputs["indices"] - run.attrs["first"], np.where(_chosen(run), w, 0.0)
    own = np.where(_chosen(run)[:, :, None], (x[:, None] + c[np.clip(z, 0, run.dims.Z - 1)]) / 2, 0.0)
    return _ids.near(run, y, (w[:, :, None] * own).sum(1), np.abs(w[:, :, None] * own).sum(1) + 1e-30, 8 * (run.dims.K + 4))


def _nobody(run):
    idle = ~np.isin(np.arange(run.dims.Z) + run.attrs["first"], run.inputs["indices"])
    return [np.all(run.grads[n][idle] == 0) for n in ("w_mix", "v")]


REQUIREMENTS = (
    Req("CONSTANT-1", "A constant expert gives a convex mixture of the token and its vector, by a softmax of two logits.", _each_choice),
    Req("CONSTANT-2", "With equal logits it gives their mean.", _even),
    Req("CONSTANT-3", "A token without a constant expert gives 0 and gets gradient 0, whatever it holds.",
        lambda r: _chosen(r).any(1, keepdims=True) | ((r.outputs.y == 0) & (r.grads["x"] == 0))),
    Req("CONSTANT-4", "Weights of other ids get gradient 0.", lambda r: _chosen(r) | (r.grads["weights"] == 0)),
    Req("CONSTANT-5", "A constant expert that nobody chose gets gradients of exactly 0.", _nobody),
)

OP = Op(
    name="experts.constant",
    inputs=(Arg("x", "T D"), Arg("indices", "T K", "index"), Arg("weights", "T K"), Arg("w_mix", "Z D 2"), Arg("v", "Z D")),
    outputs=(Arg("y", "T D"),),
    forward=constant,
    backward=constant_backward,
    cases=cases,
    invalid=INVALID,
    requirements=REQUIREMENTS,
    check=_check,
    flops=lambda T, K, D, **_: (T * K * 9 * D, T * K * 20 * D),
    refs=("Jin et al. 2024 (MoE++)",),
)
