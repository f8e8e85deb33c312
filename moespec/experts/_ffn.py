"""Feed-forward experts with one hidden layer: Shazeer et al. (2017), Switch."""

from typing import NamedTuple

import numpy as np

from moespec import corpus, numerics
from moespec.experts import _dense as dense
from moespec.experts._activations import ACTIVATIONS, require_activation
from moespec.experts._groups import LAYOUTS, groups, layout, nn, nt, offset_errors, require_offsets, sums, tn
from moespec.numerics import stored
from moespec.op import Arg, Case, Op, Req


class Saved(NamedTuple):
    inputs: tuple           # rows, w_in, w_out, b_in, b_out, dropout
    groups: list            # the slice of rows of every expert
    g: np.ndarray           # N F, pre-activations, in the accumulation dtype
    activation: str


def ffn(rows, offsets, w_in, w_out, b_in=None, b_out=None, dropout=None, *, activation="relu"):
    r"""Run the rows of every expert through its own two-layer network.

    .. math:: g_n = x_n W^\mathrm{in}_e + b^\mathrm{in}_e, \qquad h_n = m_n \odot f(g_n), \qquad
              y_n = h_n W^\mathrm{out}_e + b^\mathrm{out}_e, \qquad o_e \le n < o_{e+1}

    Dead rows (from ``offsets[E]`` on) give 0: they get no bias either.

    Parameters
    ----------
    rows : (N, D) real
        Sorted by expert.
    offsets : (E + 1,) integer
        Ascending from 0, the last at most N.
    w_in : (E, D, F) real
    w_out : (E, F, D) real
    b_in : (E, F) real, optional
    b_out : (E, D) real, optional
    dropout : (N, F) real, optional
        Factors m of the hidden activations, such as 0 or 1/(1 - p): Switch's expert dropout.  Constant, no gradient.
    activation : str
        f, a name in ACTIVATIONS.

    Returns
    -------
    out : (N, D) real
        In the dtype of `rows`; everything in between in float32 at least.
    Saved
        The inputs and g; the activation is computed again in backward.

    Raises
    ------
    ValueError
        An unknown activation; `offsets` does not start at 0, descends, or exceeds N.

    Notes
    -----
    Stored points (`numerics.stored`): g, h = f(g), dropped = m h, y; dy, dh, ddropped, dg.

    References
    ----------
    Shazeer et al. 2017, appendix C (ReLU); Fedus et al. 2021, section 2.4 (expert dropout).
    """
    OP.admit(rows, offsets, w_in, w_out, b_in, b_out, dropout, activation=activation)
    f, own = ACTIVATIONS[activation], groups(offsets)
    x, w1, w2, b1, b2, mask = map(numerics.widen, (rows, w_in, w_out, b_in, b_out, dropout))
    g = stored(nn(x, w1, own, b1), "g")
    out = stored(nn(_hidden(g, mask, f), w2, own, b2), "y")
    return out.astype(rows.dtype, copy=False), Saved((rows, w_in, w_out, b_in, b_out, dropout), own, g, activation)


def _hidden(g, mask, f):
    h = stored(f.value(g), "h")
    return h if mask is None else stored(h * mask, "dropped")


def ffn_backward(saved, dout):
    r"""Per expert; without rows exactly 0.

    .. math:: \bar h = \bar y \, {W^\mathrm{out}}^T, \quad \bar g = f'(g) \odot m \odot \bar h, \quad
              \bar x = \bar g \, {W^\mathrm{in}}^T, \quad \bar W^\mathrm{out} = h^T \bar y, \quad
              \bar W^\mathrm{in} = x^T \bar g, \quad \bar b^\mathrm{out} = \textstyle\sum_n \bar y_n, \quad
              \bar b^\mathrm{in} = \sum_n \bar g_n
    """
    inputs, own, g, activation = saved
    x, w1, w2, _, _, mask = map(numerics.widen, inputs)
    dy, f = stored(numerics.widen(dout), "dy"), ACTIVATIONS[activation]
    dh = stored(nt(dy, w2, own), "dh")
    dh = dh if mask is None else stored(dh * mask, "ddropped")
    dg = stored(dh * f.slope(g), "dg")
    grads = nt(dg, w1, own), tn(x, dg, own), tn(_hidden(g, mask, f), dy, own), sums(dg, own), sums(dy, own)
    return tuple(None if a is None else d.astype(a.dtype, copy=False) for a, d in zip(inputs[:5], grads, strict=True))


def _check(dims, rows, offsets, *weights, activation="relu"):
    require_activation("ffn", activation, f"rows has shape {tuple(rows.shape)}")
    require_offsets("ffn", offsets, rows)


# ---- what is checked -------------------------------------------------------------------------------------------------

def draw(rng, numbers, sizes, dead=0, D=3, F=4, **params):
    """Rows, offsets and parameters of ffn experts, all drawn by `numbers`."""
    offsets, n = layout(sizes, dead)
    E = len(sizes)
    return {"rows": numbers(rng, n, D), "offsets": offsets, "w_in": numbers(rng, E, D, F), "w_out": numbers(rng, E, F, D),
            "b_in": numbers(rng, E, F), "b_out": numbers(rng, E, D), **params}


def cases(rng):
    for name, sizes, dead, tags in LAYOUTS:
        yield Case(name, draw(rng, corpus.normal, sizes, dead), {}, tags)
        yield Case(f"{name}_integers", draw(rng, corpus.integers, sizes, dead), {}, tags | {"exact", "kink"})
    for activation in ACTIVATIONS:
        yield Case(activation, draw(rng, corpus.normal, (2, 0, 3), 1), {"activation": activation})
    keep = (rng.random((6, 4)) < 0.5) * 2.0
    for activation in ("relu2", "identity"):
        yield Case(f"integers_{activation}", draw(rng, corpus.integers, (2, 1, 3), D=2, dropout=keep), {"activation": activation},
                   frozenset({"exact", "kink"}))
    yield Case("dropout", draw(rng, corpus.normal, (2, 0, 3), 1, dropout=keep / 1.5), {"activation": "silu"})
    yield Case("no_biases", draw(rng, corpus.normal, (2, 3), b_in=None, b_out=None))
    yield Case("only_b_out", draw(rng, corpus.normal, (2, 3), b_in=None))
    yield Case("odd_sizes", draw(rng, corpus.normal, (17, 0, 33), 2, D=19, F=21), {"activation": "gelu"})
    stale = draw(rng, corpus.normal, (2, 1), 2)
    stale["rows"][3:] = np.nan
    yield Case("nan_dead_rows", stale, {}, frozenset({"nan"}))
    yield from _exact_sums(rng)


def _exact_sums(rng):
    """Sums over D, F and tokens that a narrow accumulator gets wrong: +4096 first, -4096 last."""
    features = draw(rng, corpus.integers, (2, 0, 3), D=6)
    features["rows"][:, [0, -1]], features["w_in"][:, 0], features["w_in"][:, -1] = 64, 64, -64
    yield Case("ballast_features", features, {}, frozenset({"exact", "kink"}))
    hidden = draw(rng, corpus.integers, (1, 0, 2), F=18)
    ends = [0, -1]                                                     # these two hidden units are 64, and see nothing else
    hidden["rows"][:, 0], hidden["w_in"][:, 0], hidden["w_in"][:, :, ends], hidden["b_in"][:, ends] = 64, 0, 0, 0
    hidden["w_in"][:, 0, ends], hidden["w_out"][:, 0], hidden["w_out"][:, -1] = 1, 64, -64
    yield Case("ballast_hidden", hidden, {}, frozenset({"exact", "kink"}))
    yield Case("long_group", draw(rng, corpus.integers, (300, 7), D=2, F=3), {"activation": "identity"}, frozenset({"exact"}))


RIGHT = {"rows": np.zeros((4, 3)), "offsets": np.array([0, 2, 4]), "w_in": np.zeros((2, 3, 5)), "w_out": np.zeros((2, 5, 3))}
INVALID = (
    *offset_errors("ffn", **RIGHT),
    (Case("unknown_activation", RIGHT, {"activation": "swish"}), ValueError,
     r"ffn: activation='swish' is not one of identity, relu, relu2, silu, gelu, gelu_tanh \(rows has shape \(4, 3\)\)"),
    (Case("transposed_w_out", {**RIGHT, "w_out": np.zeros((2, 3, 5))}), ValueError,
     r"ffn: w_out has shape \(2, 3, 5\), but F must be 5 \(F=5, w_in has shape \(2, 3, 5\)\)"),
    (Case("other_dropout", {**RIGHT, "dropout": np.zeros((4, 3))}), ValueError,
     r"ffn: dropout has shape \(4, 3\), but F must be 5"),
)


def _dense(run, f, of=lambda x: x):
    v, expert = dense.reals(run.inputs, of), dense.owner(run)
    h = f(dense.product(v["rows"], v["w_in"], expert, v["b_in"]))
    return dense.product(h if v["dropout"] is None else h * v["dropout"], v["w_out"], expert, v["b_out"])


def _activation(run):
    return run.attrs.get("activation", "relu")


def _size(run):
    return _dense(run, dense.bounding(_activation(run)), np.abs)


def _near(run, got, want):
    return dense.close(run, got, np.asarray(want, np.float64), _size(run), 2 * dense.terms(run.dims))


def _all_dropped(run):
    b_out = dense.reals(run.inputs)["b_out"]
    want = dense.product(np.zeros((run.dims.N, 0)), np.zeros((run.dims.E, 0, run.dims.D)), dense.owner(run), b_out)
    return np.asarray(run.rerun(dropout=np.zeros((run.dims.N, run.dims.F))).out, np.float64) == want


def _hidden_flipped(run):
    axes = {"w_in": 2, "b_in": 1, "w_out": 1, "dropout": 1}
    flipped = {n: np.flip(run.inputs[n], axis) for n, axis in axes.items() if run.inputs[n] is not None}
    return _near(run, run.rerun(**flipped).out, run.outputs.out)


REQUIREMENTS = (
    Req("FFN-1", "Every live row goes through the network of its own expert.",
        lambda r: _near(r, r.outputs.out, _dense(r, ACTIVATIONS[_activation(r)].value))),
    Req("FFN-2", "Dead rows give 0 (no bias) and get gradient 0, whatever they hold.", dense.dead_rows),
    Req("FFN-3", "An expert without rows gets gradients of exactly 0.", dense.idle_experts),
    Req("FFN-4", "The output is linear in the second layer: <dout, out> = <dw_out, w_out> + <db_out, b_out>.",
        lambda r: dense.adjoint(r, _size(r), dense.terms(r.dims) + r.dims.N, ("w_out", "b_out"))),
    Req("FFN-5", "Dropout factors of 0 leave b_out alone.", _all_dropped),
    Req("FFN-6", "The order of the hidden units does not matter.", _hidden_flipped),
)

OP = Op(
    name="experts.ffn",
    inputs=(Arg("rows", "N D"), Arg("offsets", "E+1", "count"), Arg("w_in", "E D F"), Arg("w_out", "E F D"),
            Arg("b_in", "E F", optional=True), Arg("b_out", "E D", optional=True),
            Arg("dropout", "N F", grad=False, optional=True)),
    outputs=(Arg("out", "N D"),),
    forward=ffn,
    backward=ffn_backward,
    cases=cases,
    invalid=INVALID,
    requirements=REQUIREMENTS,
    check=_check,
    flops=lambda N, D, F, **_: (4 * N * D * F + 2 * N * F, 8 * N * D * F + 4 * N * F),
    refs=("Shazeer et al. 2017, appendix C", "Fedus et al. 2021, section 2.4"),
)
