"""A routed layer with its router as one operation: what fused kernels take from the tokens to the output."""

from types import SimpleNamespace

import numpy as np

from moespec import corpus, program
from moespec.experts import _dense as dense
from moespec.experts._gated import VARIANTS, biases, gating_of, unit
from moespec.experts._gating import Gating, require_gating
from moespec.experts._moe import combined, draw, near
from moespec.indexing import take
from moespec.op import Arg, Case, Op, Req, Step, remembered
from moespec.program import lookup

ROUTING = ("k", "score", "over", "norm", "eps", "scale", "p")


def moe_block(x, w_router, w_gate, w_up, w_down, b_router=None, b_gate=None, b_up=None, b_down=None, indices=None, *, dtype="float32", k=None,
              score="softmax", over="all", norm="none", eps=0.0, scale=1.0, p=1.0, activation="silu", limit=None, limit_at="pre", alpha=1.0,
              up_offset=0.0, cap_gate=None, cap_up=None):
    r"""Score every token, choose its experts, send it through them and add their weighted outputs up.

    .. math:: l = x W^\mathrm{router} + b^\mathrm{router}, \qquad (i, w) = \mathrm{route}(l), \qquad
              y_t = \sum_{j : i_{tj} \ge 0} w_{tj} \, E_{i_{tj}}(x_t)

    The four steps are `gates.linear`, `gates.route`, `gates.cast_like` (the weights in the dtype of `x`) and `moe`.  A kernel that runs
    them as one may keep more digits in between, never fewer.

    Parameters
    ----------
    x : (T, D) real
    w_router : (D, E) real
    w_gate, w_up : (E, D, F) real
    w_down : (E, F, D) real
    b_router : (E,) real, optional
    b_gate, b_up : (E, F) real, optional
    b_down : (E, D) real, optional
    indices : (T, K) integer, optional
        A given selection; -1 = no expert.
    dtype : str
        Of the router; see `gates.linear`.
    k, score, over, norm, eps, scale, p
        See `gates.route`.  Ties go to the lower expert.
    activation, limit, limit_at, alpha, up_offset, cap_gate, cap_up
        See `glu`.

    Returns
    -------
    MoeBlock(logits, indices, gates, weights, y)
        `gates` are the weights as `route` returns them, like `logits` in the wider of the dtype of `x` and `dtype`; `weights` and `y` are
        in that of `x`.
    saved

    Raises
    ------
    ValueError
        As the steps do.

    References
    ----------
    Shazeer et al. 2017, section 2; Jiang et al. 2024, section 2.1.
    """
    inputs = x, w_router, w_gate, w_up, w_down, b_router, b_gate, b_up, b_down, indices
    return program.forward(OP, inputs, dtype=dtype, k=k, score=score, over=over, norm=norm, eps=eps, scale=scale, p=p, activation=activation,
                           limit=limit, limit_at=limit_at, alpha=alpha, up_offset=up_offset, cap_gate=cap_gate, cap_up=cap_up)


def moe_block_backward(saved, dlogits, dgates, dweights, dy):
    """The steps reversed; cotangents of what is returned on the way are added where it arises."""
    return program.backward(OP, saved, dlogits, dgates, dweights, dy)


def moe_block_steps(dims, *, dtype="float32", **attrs):
    """The router's product, the routing, its weights in the dtype of x, the experts."""
    routing = {name: attrs.pop(name) for name in ROUTING if name in attrs}
    return (
        Step("gates.linear", "x w_router b_router", "logits", {"dtype": dtype}),
        Step("gates.route", "logits indices", "indices gates", routing),
        Step("gates.cast_like", "gates x", "weights"),
        Step("experts.moe", "x indices weights w_gate w_up w_down b_gate b_up b_down", "y", attrs),
    )


def _check(dims, x, *inputs, **attrs):
    indices = inputs[-1]
    _require(dims.T, dims.D, dims.E, None if indices is None else indices.shape, **attrs)


@remembered
def _require(T, D, E, given, *, dtype="float32", **attrs):
    """What the steps refuse, in their words; `given`: the shape of a given selection."""
    routing = {name: attrs.pop(name) for name in ROUTING if name in attrs}
    dims, indices = SimpleNamespace(T=T, D=D, E=E), None if given is None else SimpleNamespace(shape=given)
    lookup("gates.linear").check(dims, None, None, None, dtype=dtype)
    lookup("gates.route").check(dims, None, indices, **routing)
    require_gating("moe", Gating(**attrs), f"x has shape {(T, D)}")


# ---- what is checked -------------------------------------------------------------------------------------------------

MIXTRAL = {"k": 2, "over": "selected"}
FORMS = {
    "mixtral": MIXTRAL,
    "qwen": {"k": 2, "norm": "sum"},
    "switch": {"k": 1, "activation": "relu"},
    "deepseek": {"k": 3, "score": "sigmoid", "norm": "sum", "eps": 1e-20, "scale": 2.5},
    "root_softplus": {"k": 2, "score": "sqrt_softplus", "over": "selected"},
    "oss": {**MIXTRAL, **VARIANTS["oss"]},
    "lp2": {"k": 2, "norm": "lp", "p": 2.0},
    "p_of_no_norm": {"k": 2, "norm": "sum", "p": 2.0},
    "router_of_x": {**MIXTRAL, "dtype": "bfloat16"},
    "all_experts": {"k": 4, "over": "selected"},
}


def _inputs(rng, numbers, T, D=3, F=3, E=4):
    """Tokens, a router, E experts."""
    v = draw(rng, numbers, np.zeros((T, 1), np.int64), E, D, F)
    return {"x": v["x"], "w_router": numbers(rng, D, E), "w_gate": v["w_gate"], "w_up": v["w_up"], "w_down": v["w_down"]}


def cases(rng):
    normal, integers = corpus.normal, corpus.integers
    for name, attrs in FORMS.items():
        yield Case(name, _inputs(rng, normal, 5), attrs)
        yield Case(f"{name}_biases", _inputs(rng, normal, 3) | biases(rng, normal, E=4, F=3) | {"b_router": normal(rng, 4)}, attrs)
    yield Case("one_token", _inputs(rng, normal, 1, D=16, F=8, E=8), MIXTRAL)
    yield Case("one_expert", _inputs(rng, normal, 3, E=1), {"k": 1, "over": "selected"})
    yield Case("no_tokens", _inputs(rng, normal, 0), MIXTRAL, frozenset({"empty"}))
    yield Case("odd_sizes", _inputs(rng, normal, 37, D=19, F=21, E=5), {"k": 3, "norm": "sum"})
    yield Case("many_tokens", _inputs(rng, normal, 70, D=4, F=4), MIXTRAL)
    equal = _inputs(rng, normal, 4)
    yield Case("ties", equal | {"w_router": np.zeros((3, 4))}, MIXTRAL)
    sure = frozenset({"exact", "kink"})                         # a single weight of a normalised choice is 1
    yield Case("integers", _inputs(rng, integers, 6), {"k": 1, "over": "selected", "activation": "relu"}, sure)
    yield Case("integers_many", _inputs(rng, integers, 40), {"k": 1, "over": "selected", "activation": "relu"}, sure)
    for case in corpus.routings(rng, experts=4, tokens=5):
        if case.name in ("some_missing", "all_missing", "repeats", "zipf"):
            yield case.add("given", **_inputs(rng, normal, len(case.inputs["indices"]))).with_(over="selected")
    spoilt = _inputs(rng, normal, 3)
    spoilt["x"][1, 0] = np.nan
    yield Case("nan_token", spoilt, MIXTRAL, frozenset({"nan"}))


RIGHT = {"x": np.zeros((4, 3)), "w_router": np.zeros((3, 8)), "w_gate": np.zeros((8, 3, 5)), "w_up": np.zeros((8, 3, 5)),
         "w_down": np.zeros((8, 5, 3))}
INVALID = (
    (Case("k_above_experts", RIGHT, {"k": 9}), ValueError, r"^topk: k=9 exceeds the 8 experts \(scores has shape \(4, 8\)\)"),
    (Case("no_k", RIGHT), ValueError, r"^topk: give k or indices, got neither"),
    (Case("score_unknown", RIGHT, {"k": 1, "score": "tanh"}), ValueError, r"^route: score='tanh' is not one of"),
    (Case("dtype_unknown", RIGHT, {"k": 1, "dtype": "float8"}), ValueError, r"^linear: dtype='float8' is not one of"),
    (Case("unknown_activation", RIGHT, {"k": 1, "activation": "swish"}), ValueError, r"activation='swish' is not one of identity"),
    (Case("id_too_large", {**RIGHT, "indices": np.full((4, 2), 8)}), ValueError, r"indices holds 8, outside -1 \.\. 7"),
    (Case("router_of_another_layer", {**RIGHT, "w_router": np.zeros((3, 6))}, {"k": 1}), ValueError,
     r"^moe_block: w_gate has shape \(8, 3, 5\), but E must be 6 \(E=6, w_router has shape \(3, 6\)\)"),
)


def _logits(run):
    v = dense.reals({n: run.inputs[n] for n in ("x", "w_router", "b_router")})
    b = np.zeros(run.dims.E) if v["b_router"] is None else v["b_router"]
    size = np.abs(v["x"]) @ np.abs(v["w_router"]) + np.abs(b)
    return dense.close(run, run.outputs.logits, v["x"] @ v["w_router"] + b, size, run.dims.D + 2)


def _own_routing(run):
    own = {"indices": run.outputs.indices, "weights": run.outputs.weights}
    return near(run, run.outputs.y, combined(run, unit(gating_of(run)), **own), **own)


def _largest(run):
    if run.attrs.get("over") != "selected" or run.inputs["indices"] is not None:
        return None
    l, ids = np.asarray(run.outputs.logits, np.float64), run.outputs.indices
    rest = l.copy()
    np.put_along_axis(rest, ids, -np.inf, axis=1)
    return ~(take(l, ids).min(1) < rest.max(1, initial=-np.inf))           # of NaN nothing is said


def _share(run):
    """What the weights of a token add up to."""
    if run.attrs.get("norm", "none") == "none" and (run.attrs.get("over"), run.attrs.get("score", "softmax")) != ("selected", "softmax"):
        return None
    if run.attrs.get("norm") == "lp":
        return None
    total = np.asarray(run.outputs.weights, np.float64).sum(1)
    want = np.where((run.outputs.indices >= 0).any(1), run.attrs.get("scale", 1.0), 0.0)
    return (np.abs(total - want) <= (8 * run.unit + 2.0**-50) * want) | np.isnan(total)


REQUIREMENTS = (
    Req("MOE_BLOCK-1", "The logits are the inner products of token and router, plus its bias.", _logits),
    Req("MOE_BLOCK-2", "A token's output is the sum of its experts' outputs by the weights that are returned.", _own_routing),
    Req("MOE_BLOCK-3", "Scored after the selection, no expert left out has a larger logit than a chosen one.", _largest),
    Req("MOE_BLOCK-4", "Weights that are normalised add up to the scale, to 0 for a token without an expert.", _share),
)

OP = Op(
    name="experts.moe_block",
    inputs=(Arg("x", "T D"), Arg("w_router", "D E"), Arg("w_gate", "E D F"), Arg("w_up", "E D F"), Arg("w_down", "E F D"),
            Arg("b_router", "E", optional=True), Arg("b_gate", "E F", optional=True), Arg("b_up", "E F", optional=True),
            Arg("b_down", "E D", optional=True), Arg("indices", "T K", "index", of="E", optional=True)),
    outputs=(Arg("logits", "T E", like="attr:dtype"), Arg("indices", "T K", "index", of="E"), Arg("gates", "T K", like="attr:dtype"),
             Arg("weights", "T K"), Arg("y", "T D")),
    forward=moe_block,
    backward=moe_block_backward,
    steps=moe_block_steps,
    cases=cases,
    invalid=INVALID,
    requirements=REQUIREMENTS,
    check=_check,
    flops=lambda T, D, E, K, F, **_: (2 * T * D * E + 5 * T * E + 4 * T * K + T * K * (6 * D * F + 5 * F + 2 * D),
                                      4 * T * D * E + 4 * T * E + 6 * T * K + T * K * (12 * D * F + 15 * F + 4 * D)),
    refs=("Shazeer et al. 2017, section 2", "Jiang et al. 2024, section 2.1"),
)
