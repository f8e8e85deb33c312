"""Gated experts: the SwiGLU that nearly every published mixture uses, and its relatives."""

from typing import NamedTuple

import numpy as np

from moespec import corpus, numerics
from moespec.experts import _dense as dense
from moespec.experts._activations import ACTIVATIONS, activation_of
from moespec.experts._groups import LAYOUTS, groups, layout, nn, nt, offset_errors, require_offsets, tn
from moespec.numerics import stored
from moespec.op import Arg, Case, Op, Req


class Saved(NamedTuple):
    inputs: tuple           # rows, w_gate, w_up, w_down, dropout
    groups: list            # the slice of rows of every expert
    g: np.ndarray           # N F, gate pre-activations, in the accumulation dtype
    u: np.ndarray           # N F, up projections, likewise
    activation: str


def glu(rows, offsets, w_gate, w_up, w_down, dropout=None, *, activation="silu"):
    r"""Run the rows of every expert through its own gated linear unit.

    .. math:: g_n = x_n W^\mathrm{gate}_e, \qquad u_n = x_n W^\mathrm{up}_e, \qquad h_n = m_n \odot f(g_n) \odot u_n, \qquad
              y_n = h_n W^\mathrm{down}_e, \qquad o_e \le n < o_{e+1}

    Dead rows (from ``offsets[E]`` on) give 0.

    Parameters
    ----------
    rows : (N, D) real
        Sorted by expert.
    offsets : (E + 1,) integer
        Ascending from 0, the last at most N.
    w_gate, w_up : (E, D, F) real
    w_down : (E, F, D) real
    dropout : (N, F) real, optional
        Factors m of the hidden activations, such as 0 or 1/(1 - p).  Constant, no gradient.
    activation : str
        f, a name in ACTIVATIONS: silu (SwiGLU), gelu (GEGLU), relu (ReGLU), identity (bilinear), ...

    Returns
    -------
    out : (N, D) real
        In the dtype of `rows`; everything in between in float32 at least.
    Saved
        The inputs, g and u; the activation and h are computed again in backward.

    Raises
    ------
    ValueError
        An unknown activation; `offsets` does not start at 0, descends, or exceeds N.

    Notes
    -----
    Stored points (`numerics.stored`): g, u, s = f(g), h = s u, dropped = m h, y; dy, dh, ddropped, ds, du, dg, dx_gate, dx_up
    and their sum dx.

    References
    ----------
    Shazeer 2020, eqs 5 and 6.
    """
    OP.admit(rows, offsets, w_gate, w_up, w_down, dropout, activation=activation)
    f, own = ACTIVATIONS[activation], groups(offsets)
    x, wg, wu, wd, mask = map(numerics.widen, (rows, w_gate, w_up, w_down, dropout))
    g, u = stored(nn(x, wg, own), "g"), stored(nn(x, wu, own), "u")
    out = stored(nn(_hidden(stored(f.value(g), "s"), u, mask), wd, own), "y")
    return out.astype(rows.dtype, copy=False), Saved((rows, w_gate, w_up, w_down, dropout), own, g, u, activation)


def _hidden(s, u, mask):
    h = stored(s * u, "h")
    return h if mask is None else stored(h * mask, "dropped")


def glu_backward(saved, dout):
    r"""Per expert; without rows exactly 0.

    .. math:: \bar h = m \odot \bar y \, {W^\mathrm{down}}^T, \quad \bar u = \bar h \odot f(g), \quad
              \bar g = \bar h \odot u \odot f'(g), \quad
              \bar x = \bar g \, {W^\mathrm{gate}}^T + \bar u \, {W^\mathrm{up}}^T, \quad
              \bar W^\mathrm{gate} = x^T \bar g, \quad \bar W^\mathrm{up} = x^T \bar u, \quad \bar W^\mathrm{down} = h^T \bar y
    """
    inputs, own, g, u, activation = saved
    x, wg, wu, wd, mask = map(numerics.widen, inputs)
    dy, f = stored(numerics.widen(dout), "dy"), ACTIVATIONS[activation]
    s = stored(f.value(g), "s")
    dw_down = tn(_hidden(s, u, mask), dy, own)
    dh = stored(nt(dy, wd, own), "dh")
    dh = dh if mask is None else stored(dh * mask, "ddropped")
    du = stored(dh * s, "du")
    dg = stored(stored(dh * u, "ds") * f.slope(g), "dg")
    drows = stored(stored(nt(dg, wg, own), "dx_gate") + stored(nt(du, wu, own), "dx_up"), "dx")
    grads = drows, tn(x, dg, own), tn(x, du, own), dw_down
    return tuple(d.astype(a.dtype, copy=False) for a, d in zip(inputs[:4], grads, strict=True))


def _check(dims, rows, offsets, *inputs, activation="silu"):
    activation_of("glu", activation, rows)
    require_offsets("glu", offsets, rows)


# ---- what is checked -------------------------------------------------------------------------------------------------

def draw(rng, numbers, sizes, dead=0, D=3, F=4, **more):
    """Rows, offsets and weights of gated experts, all drawn by `numbers`."""
    offsets, n = layout(sizes, dead)
    E = len(sizes)
    return {"rows": numbers(rng, n, D), "offsets": offsets, "w_gate": numbers(rng, E, D, F), "w_up": numbers(rng, E, D, F),
            "w_down": numbers(rng, E, F, D), **more}


def cases(rng):
    for name, sizes, dead, tags in LAYOUTS:
        yield Case(name, draw(rng, corpus.normal, sizes, dead), {}, tags)
        yield Case(f"{name}_integers", draw(rng, corpus.integers, sizes, dead), {"activation": "relu"}, tags | {"exact", "kink"})
    for activation in ACTIVATIONS:
        yield Case(activation, draw(rng, corpus.normal, (2, 0, 3), 1), {"activation": activation})
    keep = (rng.random((6, 4)) < 0.5) * 2.0
    for activation in ("relu2", "identity"):
        yield Case(f"integers_{activation}", draw(rng, corpus.integers, (2, 1, 3), D=2, dropout=keep), {"activation": activation},
                   frozenset({"exact", "kink"}))
    yield Case("dropout", draw(rng, corpus.normal, (2, 0, 3), 1, dropout=keep / 1.5))
    yield Case("odd_sizes", draw(rng, corpus.normal, (17, 0, 33), 2, D=19, F=21))
    yield Case("saturated", draw(rng, lambda *a: 3 * corpus.normal(*a), (2, 0, 3), D=4))
    stale = draw(rng, corpus.normal, (2, 1), 2)
    stale["rows"][3:] = np.nan
    yield Case("nan_dead_rows", stale, {}, frozenset({"nan"}))
    yield from _exact_sums(rng)


def _exact_sums(rng):
    """Sums over D, F and tokens that a narrow accumulator or operand gets wrong; ballast is +4096 first, -4096 last."""
    def case(name, inputs, activation="relu"):
        return Case(name, inputs, {"activation": activation}, frozenset({"exact", "kink"}))

    features = draw(rng, corpus.integers, (2, 0, 3), D=6)
    features["rows"][:, [0, -1]] = 64
    for w in (features["w_gate"], features["w_up"]):
        w[:, 0], w[:, -1] = 64, -64
    yield case("ballast_features", features)
    hidden = draw(rng, corpus.integers, (1, 0, 2), F=18)
    hidden["rows"][:, 0] = 8
    for w in (hidden["w_gate"], hidden["w_up"]):                   # the outer two hidden units are 8 * 8, and see nothing else
        w[:, 0], w[:, :, [0, -1]] = 0, 0
        w[:, 0, [0, -1]] = 1
    hidden["w_down"][:, 0], hidden["w_down"][:, -1] = 64, -64
    yield case("ballast_hidden", hidden)
    twelve = draw(rng, lambda r, *shape: corpus.integers(r, *shape, high=1), (3, 0, 2), D=2, F=3)
    yield case("twelve_bits", {**twelve, "w_down": 2 * rng.integers(1024, 2048, (3, 3, 2)) + 1.0})     # odd: 12 significant bits
    yield case("long_group", draw(rng, corpus.integers, (300, 7), D=2, F=3), "identity")


RIGHT = {"rows": np.zeros((4, 3)), "offsets": np.array([0, 2, 4]), "w_gate": np.zeros((2, 3, 5)), "w_up": np.zeros((2, 3, 5)),
         "w_down": np.zeros((2, 5, 3))}
INVALID = (
    *offset_errors("glu", **RIGHT),
    (Case("unknown_activation", RIGHT, {"activation": "swish"}), ValueError,
     r"glu: activation='swish' is not one of identity, relu, relu2, silu, gelu, gelu_tanh \(rows has shape \(4, 3\)\)"),
    (Case("other_width", {**RIGHT, "w_up": np.zeros((2, 3, 6))}), ValueError,
     r"glu: w_up has shape \(2, 3, 6\), but F must be 5 \(F=5, w_gate has shape \(2, 3, 5\)\)"),
    (Case("transposed_w_down", {**RIGHT, "w_down": np.zeros((2, 3, 5))}), ValueError,
     r"glu: w_down has shape \(2, 3, 5\), but F must be 5"),
)


def _dense(run, f, of=lambda x: x):
    return dense.gated(dense.reals(run.inputs, of), dense.owner(run), f)


def _activation(run):
    return run.attrs.get("activation", "silu")


def _size(run):
    return _dense(run, dense.bounding(_activation(run)), np.abs)


def _near(run, got, want):
    return dense.close(run, got, np.asarray(want, np.float64), _size(run), 2 * dense.terms(run.dims))


REQUIREMENTS = (
    Req("GLU-1", "Every live row goes through the gated unit of its own expert.",
        lambda r: _near(r, r.outputs.out, _dense(r, ACTIVATIONS[_activation(r)].value))),
    Req("GLU-2", "Dead rows give 0 and get gradient 0, whatever they hold.", dense.dead_rows),
    Req("GLU-3", "An expert without rows gets gradients of exactly 0.", dense.idle_experts),
    Req("GLU-4", "The output is linear in w_up and in w_down: <dout, out> = <dw_up, w_up> = <dw_down, w_down>.",
        lambda r: dense.adjoint(r, _size(r), dense.terms(r.dims) + r.dims.N, ("w_up",), ("w_down",))),
    Req("GLU-5", "The activation acts on the gate alone: a w_up of the other sign gives the output of the other sign.",
        lambda r: r.rerun(w_up=-r.inputs["w_up"]).out == -r.outputs.out),
    Req("GLU-6", "The bilinear unit is symmetric in w_gate and w_up.",
        lambda r: None if _activation(r) != "identity"
        else _near(r, r.rerun(w_gate=r.inputs["w_up"], w_up=r.inputs["w_gate"]).out, r.outputs.out)),
    Req("GLU-7", "Factors of 0 drop everything.", lambda r: r.rerun(dropout=np.zeros((r.dims.N, r.dims.F))).out == 0),
)

OP = Op(
    name="experts.glu",
    inputs=(Arg("rows", "N D"), Arg("offsets", "E+1", "count"), Arg("w_gate", "E D F"), Arg("w_up", "E D F"),
            Arg("w_down", "E F D"), Arg("dropout", "N F", grad=False, optional=True)),
    outputs=(Arg("out", "N D"),),
    forward=glu,
    backward=glu_backward,
    cases=cases,
    invalid=INVALID,
    requirements=REQUIREMENTS,
    check=_check,
    flops=lambda N, D, F, **_: (6 * N * D * F + 5 * N * F, 12 * N * D * F + 15 * N * F),
    refs=("Shazeer 2020, eqs 5, 6",),
)
