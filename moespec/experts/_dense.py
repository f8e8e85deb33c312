"""The dense definition of a ragged product, in float64: what requirements compare against."""

import numpy as np

from moespec.pairs import FLOOR


def reals(arrays, of=lambda x: x):
    """Arrays by name, in float64, each passed through `of`."""
    return {name: None if x is None else of(np.asarray(x, np.float64)) for name, x in arrays.items()}


def owner(run):
    """int64[N]: the expert of every row, E for a dead one."""
    return np.searchsorted(run.inputs["offsets"][1:], np.arange(run.dims.N), side="right")


def product(rows, w, expert, b=None):
    """[N, F]: every row times the matrix of its own expert, plus its bias; 0 for a dead row."""
    own, live = np.minimum(expert, len(w) - 1), (expert < len(w))[:, None]
    return np.where(live, np.einsum("nd,ndf->nf", rows, w[own]) + (0.0 if b is None else b[own]), 0.0)


def close(run, got, want, size, terms):
    """Whether `got` is within `terms` roundings of `want`, where `size` is the sum of the absolute values added up."""
    got = np.asarray(got, np.float64)
    near = np.abs(got - want) <= (terms * run.unit + 2.0**-50) * size + FLOOR[run.dtype.name]
    return near | (np.isnan(got) & np.isnan(want))


def adjoint(run, size, terms, *groups):
    """Whether <dout, out> = <dw, w> for each group of inputs that the output is linear in; None where not all is finite."""
    def inner(d, w):
        w = np.where(d == 0, 0.0, w)                                   # what gets no gradient may be NaN
        return (d * w).sum(), np.abs(w).sum()

    dout, out = (np.asarray(a, np.float64) for a in (run.cotangents["out"], run.outputs.out))
    inputs, grads = reals(run.inputs), reals(run.grads)
    if not all(np.isfinite(d).all() for d in (out, size, *(d for d in grads.values() if d is not None))):
        return None
    floor = FLOOR[run.dtype.name]
    total, slack = (dout * out).sum(), (np.abs(dout) * ((terms * run.unit + 2.0**-50) * size + floor)).sum()
    sums = [[inner(grads[n], inputs[n]) for n in group if inputs[n] is not None] for group in groups]
    return [abs(sum(v for v, _ in s) - total) <= slack + floor * sum(w for _, w in s) for s in sums]


def gated(v, expert, hidden):
    """[N, D]: the gated unit of every row's own expert, h = hidden(g, u); `v` holds the inputs by name."""
    g, u = (product(v["rows"], v[f"w_{n}"], expert, v[f"b_{n}"]) for n in ("gate", "up"))
    h = hidden(g, u)
    return product(h if v.get("dropout") is None else h * v["dropout"], v["w_down"], expert, v["b_down"])


def bounding(activation):
    """A function b with |f(g)| <= b(|g|) for the activation f."""
    return np.square if activation == "relu2" else np.positive


def terms(dims):
    """How many roundings the size of an expert's output has to cover."""
    return 4 * (dims.D + dims.F + 8)


def dead_rows(run):
    """Dead rows: output 0, gradient 0."""
    dead = owner(run) == run.dims.E
    return np.all(run.outputs.out[dead] == 0) & np.all(run.grads["rows"][dead] == 0)


def idle_experts(run):
    """Experts without a row: gradients of exactly 0."""
    idle = np.diff(run.inputs["offsets"]) == 0
    return [np.all(d[idle] == 0) for name, d in run.grads.items() if name != "rows" and d is not None]
