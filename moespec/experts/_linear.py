"""Linear experts: one affine map each, as the experts of Jacobs et al. (1991)."""

from typing import NamedTuple

import numpy as np

from moespec import corpus, numerics
from moespec.experts import _dense as dense
from moespec.experts._groups import LAYOUTS, groups, layout, nn, nt, offset_errors, require_offsets, sums, tn
from moespec.op import Arg, Case, Op, Req


class Saved(NamedTuple):
    rows: np.ndarray        # N D
    w: np.ndarray           # E D F
    b: np.ndarray | None    # E F
    groups: list            # the slice of rows of every expert


def linear(rows, offsets, w, b=None):
    r"""Apply the affine map of every expert to its own rows.

    .. math:: y_n = x_n W_e + b_e, \qquad o_e \le n < o_{e+1}

    Dead rows (from ``offsets[E]`` on) give 0: they get no bias either.

    Parameters
    ----------
    rows : (N, D) real
        Sorted by expert.  In the mixture of 1991 every expert sees every token: N = E T.
    offsets : (E + 1,) integer
        Ascending from 0, the last at most N.
    w : (E, D, F) real
    b : (E, F) real, optional

    Returns
    -------
    out : (N, F) real
        In the dtype of `rows`, accumulated in float32 at least.
    Saved
        The inputs.

    Raises
    ------
    ValueError
        `offsets` does not start at 0, descends, or exceeds N.

    References
    ----------
    Jacobs, Jordan, Nowlan & Hinton 1991, the vowel experiment; Jordan & Jacobs 1994, section 2.
    """
    OP.admit(rows, offsets, w, b)
    own = groups(offsets)
    out = nn(numerics.widen(rows), numerics.widen(w), own, numerics.widen(b))
    return out.astype(rows.dtype, copy=False), Saved(rows, w, b, own)


def linear_backward(saved, dout):
    r"""Per expert; without rows exactly 0.

    .. math:: \bar x_n = \bar y_n W_e^T, \qquad \bar W_e = \sum_n x_n^T \bar y_n, \qquad \bar b_e = \sum_n \bar y_n
    """
    rows, w, b, own = saved
    x, weights, dy = map(numerics.widen, (rows, w, dout))
    db = None if b is None else sums(dy, own).astype(b.dtype, copy=False)
    return nt(dy, weights, own).astype(rows.dtype, copy=False), tn(x, dy, own).astype(w.dtype, copy=False), db


def _check(dims, rows, offsets, w, b=None):
    require_offsets("linear", offsets, rows)


# ---- what is checked -------------------------------------------------------------------------------------------------

def cases(rng):
    def case(name, draw, sizes, dead=0, *tags):
        offsets, n = layout(sizes, dead)
        w, b = draw(rng, len(sizes), 4, 3), draw(rng, len(sizes), 3)
        return Case(name, {"rows": draw(rng, n, 4), "offsets": offsets, "w": w, "b": b}, {}, frozenset(tags))

    for name, sizes, dead, tags in LAYOUTS:
        yield case(name, corpus.normal, sizes, dead, *tags)
        yield case(f"{name}_integers", corpus.integers, sizes, dead, *tags, "exact")
    yield case("no_bias", corpus.normal, (2, 3)).add(b=None)
    stale = case("nan_dead_rows", corpus.normal, (2, 1), 2, "nan")
    stale.inputs["rows"][3:] = np.nan
    yield stale
    exact = case("ballast_bias_sum", corpus.integers, (16, 0, 24), 0, "exact")      # the bias meets 64*64 - 64*64 + small
    exact.inputs["rows"][:, [0, -1]], exact.inputs["w"][:, 0], exact.inputs["w"][:, -1] = 64, 64, -64
    yield exact
    yield case("long_group", corpus.integers, (2077, 23), 0, "exact")


RIGHT = {"rows": np.zeros((4, 3)), "offsets": np.array([0, 2, 4]), "w": np.zeros((2, 3, 5)), "b": np.zeros((2, 5))}
INVALID = (
    *offset_errors("linear", **RIGHT),
    (Case("other_width", {**RIGHT, "w": np.zeros((2, 4, 5))}), ValueError,
     r"linear: w has shape \(2, 4, 5\), but D must be 3 \(D=3, rows has shape \(4, 3\)\)"),
    (Case("bias_of_other_width", {**RIGHT, "b": np.zeros((2, 4))}), ValueError, r"linear: b has shape \(2, 4\), but F must be 5"),
)


def _definition(run, of=lambda x: x):
    v = dense.reals(run.inputs, of)
    return dense.product(v["rows"], v["w"], dense.owner(run), v["b"])


def _bias_gradient(run):
    if run.inputs["b"] is None:
        return None
    hot = np.eye(run.dims.E + 1)[dense.owner(run)][:, :-1]
    dout = np.asarray(run.cotangents["out"], np.float64)
    return dense.close(run, run.grads["b"], hot.T @ dout, hot.T @ np.abs(dout), run.dims.N + 2)


REQUIREMENTS = (
    Req("EXPERTS_LINEAR-1", "Every live row is mapped by its own expert.",
        lambda r: dense.close(r, r.outputs.out, _definition(r), _definition(r, np.abs), r.dims.D + 3)),
    Req("EXPERTS_LINEAR-2", "Dead rows give 0 (no bias) and get gradient 0, whatever they hold.", dense.dead_rows),
    Req("EXPERTS_LINEAR-3", "An expert without rows gets gradients of exactly 0.", dense.idle_experts),
    Req("EXPERTS_LINEAR-4", "The gradient of a bias is the sum of the cotangents of its expert's rows.", _bias_gradient),
    Req("EXPERTS_LINEAR-5", "The output is linear in the parameters: <dout, out> = <dw, w> + <db, b>.",
        lambda r: dense.adjoint(r, _definition(r, np.abs), r.dims.D + r.dims.N + 4, ("w", "b"))),
)

OP = Op(
    name="experts.linear",
    inputs=(Arg("rows", "N D"), Arg("offsets", "E+1", "count"), Arg("w", "E D F"), Arg("b", "E F", optional=True)),
    outputs=(Arg("out", "N F"),),
    forward=linear,
    backward=linear_backward,
    cases=cases,
    invalid=INVALID,
    requirements=REQUIREMENTS,
    check=_check,
    flops=lambda N, D, F, **_: (2 * N * D * F + N * F, 4 * N * D * F + N * F),
    refs=("Jacobs et al. 1991", "Jordan & Jacobs 1994, section 2"),
)
