"""A routed layer of gated experts as one operation: the signature that fused kernels share."""

import numpy as np

from moespec import corpus, program
from moespec.experts import _dense as dense
from moespec.experts._activations import ACTIVATIONS
from moespec.experts._gated import EXACT, VARIANTS, above, biases, gating_errors, gating_of, unit
from moespec.experts._gating import Gating, require_gating
from moespec.op import Arg, Case, Op, Req, Step


def moe(x, indices, weights, w_gate, w_up, w_down, b_gate=None, b_up=None, b_down=None, *, activation="silu", limit=None,
        limit_at="pre", alpha=1.0, up_offset=0.0, cap_gate=None, cap_up=None, rows=None):
    r"""Send every token through its experts and add their weighted outputs up.

    .. math:: y_t = \sum_{j : i_{tj} \ge 0} w_{tj} \, E_{i_{tj}}(x_t), \qquad
              E_e(x) = \bigl(s(x W^\mathrm{gate}_e + b^\mathrm{gate}_e) \odot v(x W^\mathrm{up}_e + b^\mathrm{up}_e)\bigr)
              W^\mathrm{down}_e + b^\mathrm{down}_e

    with the s and v of `glu`: s = f and v(u) = u unless attributes say otherwise.
    Dropless: every assignment with an id >= 0 is computed, whatever the load.  An id of -1 contributes nothing, and its weight
    gets gradient 0.  An id may repeat within a token: both contribute.  A token without an expert gives 0.  The contributions of
    a token are added in ascending j.  The weight is applied to the expert's output, never to its input.

    Parameters
    ----------
    x : (T, D) real
    indices : (T, K) integer
        -1 .. E-1.
    weights : (T, K) real
    w_gate, w_up : (E, D, F) real
    w_down : (E, F, D) real
    b_gate, b_up : (E, F) real, optional
    b_down : (E, D) real, optional
    activation, limit, limit_at, alpha, up_offset, cap_gate, cap_up
        As in `glu`.
    rows : int, optional
        A static bound on the number of assignments, where fewer than T K can occur.

    Returns
    -------
    y : (T, D) real
        In the dtype of `x`, accumulated in float32 at least.
    saved

    Raises
    ------
    ValueError
        An index outside -1 .. E-1; attributes that `glu` refuses; more assignments than `rows`.

    References
    ----------
    Shazeer et al. 2017, eq. 1; Shazeer 2020, eq. 6.
    """
    return program.forward(OP, (x, indices, weights, w_gate, w_up, w_down, b_gate, b_up, b_down), activation=activation, limit=limit,
                           limit_at=limit_at, alpha=alpha, up_offset=up_offset, cap_gate=cap_gate, cap_up=cap_up, rows=rows)


def moe_backward(saved, dy):
    """The steps reversed: combine, the experts, permute."""
    return program.backward(OP, saved, dy)


def moe_steps(dims, *, rows=None, **gating):
    """Plan, permute, glu, combine."""
    return (
        Step("dispatch.plan", "indices", "token row offsets", {"experts": dims["E"], "rows": rows}),
        Step("dispatch.permute", "x token", "rows"),
        Step("experts.glu", "rows offsets w_gate w_up w_down - b_gate b_up b_down", "out", gating),
        Step("dispatch.combine", "out weights row", "y"),
    )


def _check(dims, x, indices, *weights, rows=None, **gating):
    require_gating("moe", Gating(**gating), f"x has shape {tuple(x.shape)}")
    if rows is None:
        return
    live = int((indices >= 0).sum())
    if live > rows:
        raise ValueError(f"moe: rows={rows} cannot hold the {live} live assignments (indices has shape {tuple(indices.shape)})")


# ---- what is checked -------------------------------------------------------------------------------------------------

def draw(rng, numbers, indices, E=4, D=3, F=3):
    """A layer of E experts and the tokens of `indices`, drawn by `numbers`."""
    T, K = indices.shape
    return {"x": numbers(rng, T, D), "indices": indices, "weights": numbers(rng, T, K), "w_gate": numbers(rng, E, D, F),
            "w_up": numbers(rng, E, D, F), "w_down": numbers(rng, E, F, D)}


def cases(rng):
    for case in corpus.routings(rng, experts=4, tokens=5):         # repeats, -1, empty experts, no tokens ...
        indices = case.inputs["indices"]
        zero = frozenset({"exact"} if (indices < 0).all() else ())     # nothing is added up
        yield case._replace(inputs=draw(rng, corpus.normal, indices), tags=case.tags | zero)
        yield Case(f"{case.name}_integers", draw(rng, corpus.integers, indices), {"activation": "relu"},
                   case.tags | {"exact", "kink"})
        if case.name in ("distinct", "some_missing", "all_to_one", "no_tokens"):      # kernels that want rows of 16 bytes run these
            yield Case(f"{case.name}_aligned", draw(rng, corpus.normal, indices, D=16, F=8), {}, case.tags)
    one = np.array([[0], [0], [-1], [0]])
    yield Case("one_expert", draw(rng, corpus.normal, one, E=1))
    yield Case("static_rows", draw(rng, corpus.normal, one, E=1), {"rows": 3})
    yield Case("spare_rows", draw(rng, corpus.normal, one, E=2), {"rows": 4})
    pairs = np.argsort(rng.random((6, 4)), axis=1)[:, :2]
    for activation in ACTIVATIONS:
        yield Case(activation, draw(rng, corpus.normal, pairs, D=2), {"activation": activation})
    for name, attrs in VARIANTS.items():
        yield Case(name, draw(rng, corpus.normal, pairs) | biases(rng, corpus.normal, E=4, F=3), attrs)
    missing = np.where(pairs == 1, -1, pairs)
    for name, attrs in EXACT.items():
        yield Case(name, draw(rng, corpus.integers, missing) | biases(rng, corpus.integers, E=4, F=3), attrs, frozenset({"exact", "kink"}))
    yield Case("odd_sizes", draw(rng, corpus.normal, rng.integers(-1, 4, (37, 3)), D=19, F=21))
    yield from _exact_sums(rng, pairs)


def _exact_sums(rng, pairs):
    """A contraction with ballast, and a busy expert beside an idle one: exact in any order."""
    def case(name, inputs, activation):
        return Case(name, inputs, {"activation": activation}, frozenset({"exact", "kink"}))

    ballast = draw(rng, corpus.integers, pairs, D=6)
    ballast["x"][:, [0, -1]] = 64
    for w in (ballast["w_gate"], ballast["w_up"]):
        w[:, 0], w[:, -1] = 64, -64
    yield case("ballast_features", ballast, "relu")
    busy = np.where(rng.random((200, 1)) < 0.9, 1, 3)
    yield case("busy_expert", draw(rng, corpus.integers, busy, D=2, F=2), "identity")


PARAMETERS = ("w_gate", "w_up", "w_down", "b_gate", "b_up", "b_down")
RIGHT = {"x": np.zeros((4, 3)), "indices": np.zeros((4, 2), int), "weights": np.zeros((4, 2)), "w_gate": np.zeros((8, 3, 5)),
         "w_up": np.zeros((8, 3, 5)), "w_down": np.zeros((8, 5, 3))}
INVALID = (
    (Case("id_too_large", {**RIGHT, "indices": np.full((4, 2), 8)}), ValueError, r"indices holds 8, outside -1 \.\. 7"),
    (Case("id_too_small", {**RIGHT, "indices": np.full((4, 2), -2)}), ValueError, r"indices holds -2, outside -1 \.\. 7"),
    (Case("rows_too_few", RIGHT, {"rows": 7}), ValueError, r"rows=7 cannot hold the 8 live assignments"),
    *gating_errors("", RIGHT),
    (Case("other_width", {**RIGHT, "w_gate": np.zeros((8, 4, 5))}), ValueError, r"w_gate has shape \(8, 4, 5\), but D must be 3"),
    (Case("other_choices", {**RIGHT, "weights": np.zeros((4, 3))}), ValueError, r"weights has shape \(4, 3\), but K must be 2"),
    (Case("other_experts", {**RIGHT, "w_down": np.zeros((7, 5, 3))}), ValueError,
     r"w_down has shape \(7, 5, 3\), but E must be 8"),
)


def combined(run, h, of=lambda x: x, **changes):
    """[T, D]: every choice on its own, by the dense form; weighted and added up.  `changes` replace inputs of the run."""
    v, ids = dense.reals(run.inputs | changes, of), (run.inputs | changes)["indices"]
    owner = np.where(ids < 0, run.dims.E, ids).ravel()
    each = dense.gated({**v, "rows": np.repeat(v["x"], run.dims.K, axis=0)}, owner, h)
    return np.einsum("tk,tkd->td", v["weights"], each.reshape(*ids.shape, run.dims.D))


def near(run, got, want, **changes):
    size = combined(run, above(gating_of(run)), np.abs, **changes)
    return dense.close(run, got, np.asarray(want, np.float64), size, 2 * dense.terms(run.dims) + 4 * run.dims.K)


def _experts_renamed(run):
    """Expert e becomes expert E-1-e."""
    ids = np.where(run.inputs["indices"] < 0, -1, run.dims.E - 1 - run.inputs["indices"])
    flipped = {w: np.flip(run.inputs[w], 0) for w in PARAMETERS if run.inputs[w] is not None}
    return near(run, run.rerun(indices=ids, **flipped).y, run.outputs.y)


def _tokens_reversed(run):
    flipped = {n: np.flip(run.inputs[n], 0) for n in ("x", "indices", "weights")}
    return near(run, np.flip(run.rerun(**flipped).y, 0), run.outputs.y)


def _repeated_id(run):
    """Every choice replaced by the first one, against the first one alone."""
    same = {n: np.repeat(run.inputs[n][:, :1], run.dims.K, axis=1) for n in ("indices", "weights")}
    alone = np.where(np.arange(run.dims.K) == 0, same["indices"], -1)
    once = np.asarray(run.rerun(weights=same["weights"], indices=alone, rows=None).y, np.float64)
    return near(run, run.rerun(**same, rows=None).y, run.dims.K * once, **same)


def _doubled_weights(run):
    twice = 2 * run.inputs["weights"]
    return near(run, run.rerun(weights=twice).y, 2 * np.asarray(run.outputs.y, np.float64), weights=twice)


def _missing(run):
    missing = run.inputs["indices"] < 0
    lonely = missing.all(axis=1)
    return [np.all(run.grads["weights"][missing] == 0), np.all(run.outputs.y[lonely] == 0), np.all(run.grads["x"][lonely] == 0)]


def _idle_experts(run):
    idle = ~np.isin(np.arange(run.dims.E), run.inputs["indices"])
    return [np.all(run.grads[w][idle] == 0) for w in PARAMETERS if run.grads[w] is not None]


REQUIREMENTS = (
    Req("MOE-1", "A token's output is the weighted sum of its experts' outputs.",
        lambda r: near(r, r.outputs.y, combined(r, unit(gating_of(r))))),
    Req("MOE-2", "The numbering of the experts does not matter.", _experts_renamed),
    Req("MOE-3", "The order of the tokens does not matter.", _tokens_reversed),
    Req("MOE-4", "An id of -1 contributes nothing and its weight gets gradient 0; a token without an expert gives 0.", _missing),
    Req("MOE-5", "An id that a token repeats contributes each time.", _repeated_id),
    Req("MOE-6", "The output is linear in the weights: twice the weights, twice the output.", _doubled_weights),
    Req("MOE-7", "An expert without a token gets gradients of exactly 0.", _idle_experts),
)

OP = Op(
    name="experts.moe",
    inputs=(Arg("x", "T D"), Arg("indices", "T K", "index", of="E"), Arg("weights", "T K"), Arg("w_gate", "E D F"),
            Arg("w_up", "E D F"), Arg("w_down", "E F D"), Arg("b_gate", "E F", optional=True), Arg("b_up", "E F", optional=True),
            Arg("b_down", "E D", optional=True)),
    outputs=(Arg("y", "T D"),),
    forward=moe,
    backward=moe_backward,
    steps=moe_steps,
    cases=cases,
    invalid=INVALID,
    requirements=REQUIREMENTS,
    check=_check,
    flops=lambda T, K, D, F, **_: (T * K * (6 * D * F + 5 * F + 2 * D), T * K * (12 * D * F + 15 * F + 4 * D)),
    refs=("Shazeer et al. 2017, eq. 1", "Shazeer 2020, eq. 6"),
)
