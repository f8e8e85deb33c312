"""Gated experts: the SwiGLU that nearly every published mixture uses, and its relatives."""

from typing import NamedTuple

import numpy as np

from moespec import numerics
from moespec.experts import _dense as dense
from moespec.experts._gated import above, cases, gating_errors, gating_of, unit
from moespec.experts._gating import Gating, gate, pull_gate, pull_up, require_gating, up
from moespec.experts._groups import groups, nn, nt, offset_errors, require_offsets, sums, tn
from moespec.numerics import stored
from moespec.op import Arg, Case, Op, Req


class Saved(NamedTuple):
    inputs: tuple           # rows, w_gate, w_up, w_down, b_gate, b_up, b_down, dropout
    groups: list            # the slice of rows of every expert
    g: np.ndarray           # N F, gate pre-activations, in the accumulation dtype
    u: np.ndarray           # N F, up projections, likewise
    gating: Gating


def glu(rows, offsets, w_gate, w_up, w_down, dropout=None, b_gate=None, b_up=None, b_down=None, *, activation="silu",
        limit=None, limit_at="pre", alpha=1.0, up_offset=0.0, cap_gate=None, cap_up=None):
    r"""Run the rows of every expert through its own gated linear unit.

    .. math:: g_n = x_n W^\mathrm{gate}_e + b^\mathrm{gate}_e, \qquad u_n = x_n W^\mathrm{up}_e + b^\mathrm{up}_e, \qquad
              h_n = m_n \odot s(g_n) \odot v(u_n), \qquad y_n = h_n W^\mathrm{down}_e + b^\mathrm{down}_e, \qquad
              o_e \le n < o_{e+1}

    Without further attributes s = f, the activation, and v(u) = u.  In general, with L the limit (none: infinite),

    .. math:: s(g) = \begin{cases} f(\min(g, L)) & \text{pre} \\ \min(f(g), L) & \text{post} \end{cases} \qquad
              v(u) = \mathrm{cap}_\mathrm{up}\bigl(\max(-L, \min(u, L))\bigr) + \mathrm{offset} \qquad
              f(g) = \mathrm{cap}_\mathrm{gate}(g) \, \sigma(\alpha g) \text{ for silu}

    and cap(z) = c tanh(z / c), or z where there is no cap.  The gate is limited from above only, the up projection on both
    sides.  Dead rows (from ``offsets[E]`` on) give 0: they get no bias either.  A NaN is limited to nothing and stays one.

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
    b_gate, b_up : (E, F) real, optional
    b_down : (E, D) real, optional
    activation : str
        f, a name in ACTIVATIONS: silu (SwiGLU), gelu (GEGLU), relu (ReGLU), identity (bilinear), ...
    limit : float, optional
        L > 0.
    limit_at : {"pre", "post"}
        Whether the gate is limited before or after the activation.
    alpha : float
        Steepness of the gate's sigmoid, > 0; other than 1 for silu only.
    up_offset : float
        Added to the up projection last: 1 in gpt-oss.
    cap_gate, cap_up : float, optional
        Soft caps c > 0; `cap_gate` for silu only, where its sigmoid sees g without the cap.

    Returns
    -------
    out : (N, D) real
        In the dtype of `rows`; everything in between in float32 at least.
    Saved
        The inputs, g and u; s, v and h are computed again in backward.

    Raises
    ------
    ValueError
        An unknown activation or `limit_at`; a limit, alpha or cap that is not above 0, or that the activation does not have;
        `offsets` does not start at 0, descends, or exceeds N.

    Notes
    -----
    Stored points (`numerics.stored`): g, u, s, v, h = s v, dropped = m h, y; dy, dh, ddropped, ds, dv, dg, du, dx_gate, dx_up and
    their sum dx.

    References
    ----------
    Shazeer 2020, eqs 5 and 6.  Limits, offset and alpha: gpt-oss, MiniMax-M3, DeepSeek-V4 (pre), Step 3.7 (post); caps: Inkling 2.
    """
    inputs = rows, w_gate, w_up, w_down, b_gate, b_up, b_down, dropout
    gating = Gating(activation, limit, limit_at, alpha, up_offset, cap_gate, cap_up)
    OP.admit(rows, offsets, w_gate, w_up, w_down, dropout, b_gate, b_up, b_down, **gating._asdict())
    own = groups(offsets)
    x, wg, wu, wd, bg, bu, bd, mask = map(numerics.widen, inputs)
    g, u = stored(nn(x, wg, own, bg), "g"), stored(nn(x, wu, own, bu), "u")
    s, v = _factors(g, u, gating)
    out = stored(nn(_hidden(s, v, mask), wd, own, bd), "y")
    return out.astype(rows.dtype, copy=False), Saved(inputs, own, g, u, gating)


def _factors(g, u, gating):
    return stored(gate(g, gating), "s"), stored(up(u, gating), "v")


def _hidden(s, v, mask):
    h = stored(s * v, "h")
    return h if mask is None else stored(h * mask, "dropped")


def glu_backward(saved, dout):
    r"""Per expert; without rows exactly 0.  A limit passes the gradient at equality and stops it beyond.

    .. math:: \bar h = m \odot \bar y \, {W^\mathrm{down}}^T, \quad \bar u = \bar h \odot s(g) \odot v'(u), \quad
              \bar g = \bar h \odot v(u) \odot s'(g), \quad
              \bar x = \bar g \, {W^\mathrm{gate}}^T + \bar u \, {W^\mathrm{up}}^T, \quad
              \bar W^\mathrm{gate} = x^T \bar g, \quad \bar W^\mathrm{up} = x^T \bar u, \quad \bar W^\mathrm{down} = h^T \bar y

    The gradients of the biases are the sums of :math:`\bar g`, :math:`\bar u` and :math:`\bar y` over an expert's rows.
    """
    inputs, own, g, u, gating = saved
    x, wg, wu, wd, *_, mask = map(numerics.widen, inputs)
    dy, (s, v) = stored(numerics.widen(dout), "dy"), _factors(g, u, gating)
    dw_down = tn(_hidden(s, v, mask), dy, own)
    dh = stored(nt(dy, wd, own), "dh")
    dh = dh if mask is None else stored(dh * mask, "ddropped")
    du = stored(pull_up(stored(dh * s, "dv"), u, gating), "du")
    dg = stored(pull_gate(stored(dh * v, "ds"), g, gating), "dg")
    drows = stored(stored(nt(dg, wg, own), "dx_gate") + stored(nt(du, wu, own), "dx_up"), "dx")
    grads = drows, tn(x, dg, own), tn(x, du, own), dw_down, sums(dg, own), sums(du, own), sums(dy, own)
    return tuple(None if a is None else d.astype(a.dtype, copy=False) for a, d in zip(inputs[:7], grads, strict=True))


def _check(dims, rows, offsets, *weights, **gating):
    require_gating("glu", Gating(**gating), f"rows has shape {tuple(rows.shape)}")
    require_offsets("glu", offsets, rows)


# ---- what is checked -------------------------------------------------------------------------------------------------

RIGHT = {"rows": np.zeros((4, 3)), "offsets": np.array([0, 2, 4]), "w_gate": np.zeros((2, 3, 5)), "w_up": np.zeros((2, 3, 5)),
         "w_down": np.zeros((2, 5, 3))}
INVALID = (
    *offset_errors("glu", **RIGHT),
    *gating_errors("glu", RIGHT),
    (Case("other_width", {**RIGHT, "w_up": np.zeros((2, 3, 6))}), ValueError,
     r"glu: w_up has shape \(2, 3, 6\), but F must be 5 \(F=5, w_gate has shape \(2, 3, 5\)\)"),
    (Case("transposed_w_down", {**RIGHT, "w_down": np.zeros((2, 3, 5))}), ValueError,
     r"glu: w_down has shape \(2, 3, 5\), but F must be 5"),
    (Case("bias_of_other_width", {**RIGHT, "b_down": np.zeros((2, 5))}), ValueError,
     r"glu: b_down has shape \(2, 5\), but D must be 3"),
)


def _dense(run, h, of=lambda x: x):
    return dense.gated(dense.reals(run.inputs, of), dense.owner(run), h)


def _size(run):
    return _dense(run, above(gating_of(run)), np.abs)


def _near(run, got, want):
    return dense.close(run, got, np.asarray(want, np.float64), _size(run), 2 * dense.terms(run.dims))


def _adjoint(run):
    """Of the down projection always; of the up projection where nothing bends or shifts it."""
    a = gating_of(run)
    straight = a.limit is None and a.cap_up is None and not a.up_offset and run.inputs["b_down"] is None
    groups = (("w_down", "b_down"), *((("w_up", "b_up"),) if straight else ()))
    return dense.adjoint(run, _size(run), dense.terms(run.dims) + run.dims.N, *groups)


def _odd(run):
    a = gating_of(run)
    if a.up_offset:
        return None
    flipped = {n: None if run.inputs[n] is None else -run.inputs[n] for n in ("w_up", "b_up")}
    out, other = run.rerun(b_down=None).out, -run.rerun(b_down=None, **flipped).out
    return (out == other) | np.isnan(out) if a.cap_up is None else _near(run, other, out)      # a tanh need not be odd to the bit


def _symmetric(run):
    if gating_of(run) != Gating("identity"):
        return None
    v = run.inputs
    return _near(run, run.rerun(w_gate=v["w_up"], w_up=v["w_gate"], b_gate=v["b_up"], b_up=v["b_gate"]).out, run.outputs.out)


def _all_dropped(run):
    b_down = dense.reals(run.inputs)["b_down"]
    want = dense.product(np.zeros((run.dims.N, 0)), np.zeros((run.dims.E, 0, run.dims.D)), dense.owner(run), b_down)
    out = np.asarray(run.rerun(dropout=np.zeros((run.dims.N, run.dims.F))).out, np.float64)
    return (out == want) | np.isnan(np.asarray(run.inputs["rows"], float)).any(1, keepdims=True)


def _beyond(run):
    """A hidden unit whose rows all lie well beyond the limit: nothing reaches its column of w_gate, of w_up."""
    a, v, own = gating_of(run), dense.reals(run.inputs), dense.owner(run)
    if a.limit is None:
        return None
    g, u = (dense.product(v["rows"], v[f"w_{n}"], own, v[f"b_{n}"]) for n in ("gate", "up"))
    s = g if a.limit_at == "pre" else unit(a._replace(limit=None, up_offset=1.0))(g, np.zeros_like(u))
    for e in range(run.dims.E):
        gate_out, up_out = (np.all(z[own == e] > a.limit * 1.03, axis=0) for z in (s, np.abs(u)))
        if run.grads["w_gate"][e][:, gate_out].any() or run.grads["w_up"][e][:, up_out].any():
            return False
    return True


REQUIREMENTS = (
    Req("GLU-1", "Every live row goes through the gated unit of its own expert.",
        lambda r: _near(r, r.outputs.out, _dense(r, unit(gating_of(r))))),
    Req("GLU-2", "Dead rows give 0 and get gradient 0, whatever they hold.", dense.dead_rows),
    Req("GLU-3", "An expert without rows gets gradients of exactly 0.", dense.idle_experts),
    Req("GLU-4", "The output is linear in the down projection, and in an up projection that nothing bends: <dout, out> = <dw, w> + <db, b>.",
        _adjoint),
    Req("GLU-5", "The activation acts on the gate alone, limit and cap of the up projection are odd: an up projection of the other sign "
        "gives the output of the other sign.", _odd),
    Req("GLU-6", "The bilinear unit is symmetric in gate and up projection.", _symmetric),
    Req("GLU-7", "Factors of 0 drop everything but b_down.", _all_dropped),
    Req("GLU-8", "What lies beyond the limit gets no gradient.", _beyond),
    Req("GLU-9", "A limit that nothing reaches changes nothing.",
        lambda r: None if r.attrs.get("limit") else _near(r, r.rerun(limit=2.0**60).out, r.outputs.out)),
)

OP = Op(
    name="experts.glu",
    inputs=(Arg("rows", "N D"), Arg("offsets", "E+1", "count"), Arg("w_gate", "E D F"), Arg("w_up", "E D F"),
            Arg("w_down", "E F D"), Arg("dropout", "N F", grad=False, optional=True), Arg("b_gate", "E F", optional=True),
            Arg("b_up", "E F", optional=True), Arg("b_down", "E D", optional=True)),
    outputs=(Arg("out", "N D"),),
    forward=glu,
    backward=glu_backward,
    cases=cases,
    invalid=INVALID,
    requirements=REQUIREMENTS,
    check=_check,
    flops=lambda N, D, F, **_: (6 * N * D * F + 5 * N * F, 12 * N * D * F + 15 * N * F),
    refs=("Shazeer 2020, eqs 5, 6", "OpenAI 2025 (gpt-oss model card)"),
)
