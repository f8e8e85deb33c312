"""The router's matrix product, with its dtype."""

from typing import NamedTuple

import numpy as np

from moespec import corpus
from moespec.numerics import widen
from moespec.op import Arg, Case, Op, Req, wider


class Saved(NamedTuple):
    x: np.ndarray           # T D
    w: np.ndarray           # D E
    bias: np.dtype | None


def linear(x, w, b=None, *, dtype="float32"):
    r"""Logits of the experts.

    .. math:: l_{ti} = \sum_d x_{td} w_{di} + b_i

    Computed, and returned, in the wider of the dtype of `x` and `dtype`: a bfloat16 x gives float32 logits by default (selective
    precision, Switch Transformers section 2.4); nothing is ever narrowed.

    Parameters
    ----------
    x : (T, D) real
    w : (D, E) real
    b : (E,) real, optional
    dtype : str
        Of the router.

    Returns
    -------
    logits : (T, E) real
    Saved
        x, w.

    Raises
    ------
    ValueError
        An unknown dtype.

    References
    ----------
    Shazeer et al. 2017, section 2.1; Fedus et al. 2021, section 2.4.
    """
    OP.admit(x, w, b, dtype=dtype)
    out = wider(x.dtype, dtype)
    logits = widen(x.astype(out)) @ widen(w.astype(wider(w.dtype, out)))
    if b is not None:
        logits = logits + widen(b)
    return logits.astype(out), Saved(x, w, None if b is None else b.dtype)


def linear_backward(saved, dlogits):
    r"""Gradients in the dtypes of x, w and b.

    .. math:: \bar x = \bar l \, w^T, \qquad \bar w = x^T \bar l, \qquad \bar b = \sum_t \bar l_t
    """
    d, x, w = widen(dlogits), widen(saved.x), widen(saved.w)
    db = None if saved.bias is None else d.sum(0).astype(saved.bias)
    return (d @ w.T).astype(saved.x.dtype), (x.T @ d).astype(saved.w.dtype), db


def _check(dims, x, w, b, *, dtype="float32"):
    require_dtype("linear", dtype)


def require_dtype(name, dtype):
    """Refuse a router dtype that is not one of the four."""
    if dtype not in ("float64", "float32", "float16", "bfloat16"):
        raise ValueError(f"{name}: dtype={dtype!r} is not one of float64, float32, float16, bfloat16")


# ---- what is checked -------------------------------------------------------------------------------------------------

def cases(rng):
    for name, t, d, e in (("normal", 5, 4, 3), ("one_token", 1, 6, 4), ("one_expert", 3, 4, 1), ("no_tokens", 0, 4, 3), ("odd_sizes", 7, 17, 9)):
        inputs = {"x": corpus.normal(rng, t, d), "w": corpus.normal(rng, d, e)}
        case = Case(name, inputs, {}, frozenset({"empty"} if not t else ()))
        yield case
        yield case.add("bias", b=corpus.normal(rng, e))
        yield case.with_("own_dtype", dtype="bfloat16")
    integers = {"x": corpus.integers(rng, 6, 18), "w": corpus.integers(rng, 18, 5), "b": corpus.integers(rng, 5)}
    yield Case("integers", integers, {}, frozenset({"exact"}))
    integers["x"][:, 0], integers["x"][:, -1], integers["w"][0], integers["w"][-1] = 64, 64, 64, -64
    yield Case("ballast", integers, {}, frozenset({"exact"}))
    spoilt = corpus.normal(rng, 3, 4)
    spoilt[1, 2] = np.nan
    yield Case("nan_token", {"x": spoilt, "w": corpus.normal(rng, 4, 3)}, {}, frozenset({"nan"}))


INVALID = (
    (Case("other_width", {"x": np.zeros((3, 4)), "w": np.zeros((5, 2))}), ValueError,
     r"^linear: w has shape \(5, 2\), but D must be 4 \(D=4, x has shape \(3, 4\)\)"),
    (Case("dtype_unknown", {"x": np.zeros((3, 4)), "w": np.zeros((4, 2))}, {"dtype": "float8"}), ValueError,
     r"^linear: dtype='float8' is not one of"),
    (Case("x_missing", {"w": np.zeros((4, 2))}), ValueError, r"^linear: x is required"),
)


def _by_loop(run):
    x, w = (np.asarray(run.inputs[n], float) for n in ("x", "w"))
    b = np.zeros(run.dims.E) if run.inputs["b"] is None else np.asarray(run.inputs["b"], float)
    got, unit = np.asarray(run.outputs.logits, float), {8: 2.0**-53, 4: 2.0**-24, 2: run.unit}[run.outputs.logits.itemsize]
    for t, i in np.ndindex(got.shape):
        terms = [x[t, d] * w[d, i] for d in range(run.dims.D)] + [b[i]]
        if np.isfinite(terms).all() and abs(got[t, i] - sum(terms)) > (len(terms) + 2) * unit * np.abs(terms).sum() + 1e-30:
            return False
    return True


REQUIREMENTS = (
    Req("GATES_LINEAR-1", "Logits are the inner products of token and expert, plus the bias.", _by_loop),
    Req("GATES_LINEAR-2", "The logits have the wider of the input's dtype and the router's.",
        lambda r: r.outputs.logits.dtype == wider(r.dtype, r.attrs.get("dtype", "float32"))),
)

OP = Op(
    name="gates.linear",
    inputs=(Arg("x", "T D"), Arg("w", "D E"), Arg("b", "E", optional=True)),
    outputs=(Arg("logits", "T E", like="attr:dtype"),),
    forward=linear,
    backward=linear_backward,
    cases=cases,
    invalid=INVALID,
    requirements=REQUIREMENTS,
    check=_check,
    flops=lambda T, D, E, **_: (2 * T * D * E, 4 * T * D * E),
    refs=("Shazeer et al. 2017, section 2.1", "Fedus et al. 2021, section 2.4"),
)
