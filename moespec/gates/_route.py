"""The general router: score, select, weigh, as a composite of the small gates."""

import numpy as np

from moespec import corpus, program
from moespec.gates._renormalize import require_norm
from moespec.gates._topk import require_k
from moespec.indexing import take
from moespec.op import Arg, Case, Op, Req, Step, remembered

SCORES = ("softmax", "sigmoid", "sqrt_softplus")


def route(logits, indices=None, *, k=None, score="softmax", over="all", norm="none", eps=0.0, scale=1.0, p=1.0):
    r"""Score, select and weigh in named steps.

    .. math:: s = \mathrm{score}(l), \quad i_t = \mathrm{top}_k(s_t), \quad w = \mathrm{renormalize}(s_i) \qquad \text{over = all} \\
              i_t = \mathrm{top}_k(l_t), \quad w = \mathrm{renormalize}(\mathrm{score}(l_i)) \qquad \text{over = selected}

    `score` names two gates, looked up: itself for all experts, `selected_...` for the chosen ones.  The papers' own gates
    (`topk_softmax`, `softmax_topk`, the selection of `switch`, `noisy_topk` and `gshard`) are instances with a softmax.  Scores that
    saturate (a sigmoid of 1) tie, and ties go to the lower expert: there the two orders choose differently.

    Parameters
    ----------
    logits : (T, E) real
    indices : (T, K) integer, optional
        A given selection; -1 = no expert.
    k : int
        1 <= k <= E.  May be left out with `indices`.
    score : {"softmax", "sigmoid", "sqrt_softplus"}
    over : {"all", "selected"}
        Score all experts, or the selected ones alone.
    norm, eps, scale, p
        See `renormalize`.

    Returns
    -------
    Routing(indices, weights)
        int64; the dtype of `logits`.
    saved

    Raises
    ------
    ValueError
        An unknown `score` or `over`; as the steps do.

    References
    ----------
    docs/design.md, "One operation".
    """
    return program.forward(OP, (logits, indices), k=k, score=score, over=over, norm=norm, eps=eps, scale=scale, p=p)


def route_backward(saved, dweights):
    """The steps reversed."""
    return program.backward(OP, saved, dweights)


def route_steps(dims, *, k=None, score="softmax", over="all", norm="none", eps=0.0, scale=1.0, p=1.0):
    """The straight line; a selection that is given passes through `topk` as it is."""
    return _line(k, score, over, norm, eps, scale, p)


@remembered
def _line(k, score, over, norm, eps, scale, p):
    if score not in SCORES:
        raise ValueError(f"route: score={score!r} is not one of {', '.join(SCORES)}")
    weigh = Step("gates.renormalize", "chosen indices", "weights", {"norm": norm, "eps": eps, "scale": scale, **({"p": p} if norm == "lp" else {})})
    if over == "all":
        return (Step(f"gates.{score}", "logits", "scores"),
                Step("gates.topk", "scores indices", "indices", {"k": k}),
                Step("gates.gather", "scores indices", "chosen"), weigh)
    if over == "selected":
        return (Step("gates.topk", "logits indices", "indices", {"k": k}),
                Step("gates.gather", "logits indices", "chosen_logits", {"missing": float("-inf")}),
                Step(f"gates.selected_{score}", "chosen_logits indices", "chosen"), weigh)
    raise ValueError(f"route: over={over!r} is not one of 'all', 'selected'")


def _check(dims, logits, indices, *, k=None, norm="none", eps=0.0, p=1.0, **attrs):
    """What the steps refuse, in their words."""
    route_steps(vars(dims), **attrs)
    require_k("topk", k, dims.E, (dims.T, dims.E), indices, of="scores")
    require_norm("renormalize", norm, eps, (dims.T, k if indices is None else indices.shape[1]), p)


# ---- what is checked -------------------------------------------------------------------------------------------------

SCORED = ("normal", "dyadic", "signed_zeros", "no_tokens", "one_expert", "seven_experts", "nan", "minus_inf")


def cases(rng):
    for case in corpus.logits(rng):
        k = min(2, case.inputs["logits"].shape[1])
        yield case.with_("all", k=k)
        yield case.with_("all_sum", k=k, norm="sum", scale=2.5)
        yield case.with_("selected", k=k, over="selected")
        if case.name in SCORED:
            for score in SCORES[1:]:
                yield case.with_(f"{score}_sum", k=k, score=score, norm="sum", eps=1e-20, scale=2.5)
                yield case.with_(f"{score}_selected", k=k, score=score, over="selected")
        if case.name == "normal":
            yield case.with_("lp2", k=k, norm="lp", p=2.0)
    saturated = Case("saturated", {"logits": np.array([[40.0, 50.0, 60.0, 45.0, 3.0, 2.0]])}, {"k": 2, "score": "sigmoid"})
    yield saturated.with_("all")                                           # four scores of 1: the lower two
    yield saturated.with_("selected", over="selected")                     # the larger two
    for case in corpus.routings(rng):
        given = case.add("given", logits=corpus.dyadic(rng, len(case.inputs["indices"]), 8))
        yield given.with_(over="selected")
        yield given.with_("sigmoid", score="sigmoid", norm="sum", eps=1e-20)
        yield given.with_("sqrt_softplus", score="sqrt_softplus", over="selected")


INVALID = (
    (Case("k_above_experts", {"logits": np.zeros((16, 8))}, {"k": 9}), ValueError,
     r"^topk: k=9 exceeds the 8 experts \(scores has shape \(16, 8\)\)"),
    (Case("score_unknown", {"logits": np.zeros((2, 8))}, {"k": 1, "score": "tanh"}), ValueError,
     r"^route: score='tanh' is not one of softmax, sigmoid, sqrt_softplus"),
    (Case("over_unknown", {"logits": np.zeros((2, 8))}, {"k": 1, "over": "some"}), ValueError, r"^route: over='some' is not one of"),
    (Case("norm_unknown", {"logits": np.zeros((2, 8))}, {"k": 1, "norm": "l3"}), ValueError, r"^renormalize: norm='l3' is not one of"),
)


def _ratio(run):
    """Two weights of a token stand in the ratio of their exponentials, however they are normalised."""
    l, ids, w = np.asarray(run.inputs["logits"], float), run.outputs.indices, np.asarray(run.outputs.weights, float)
    if run.attrs.get("score", "softmax") != "softmax" or run.dims.K != 2 or not run.dims.T or not np.isfinite(l).all():
        return None
    c = take(l, ids)
    sure = (ids >= 0).all(1) & (np.abs(l) < 20).all(1)
    left, right = w[:, 0] * np.exp(np.clip(c[:, 1], -30, 30)), w[:, 1] * np.exp(np.clip(c[:, 0], -30, 30))
    return ~sure | (np.abs(left - right) <= (1e-4 + 8 * run.unit) * np.maximum(left, right) + 1e-3 * (run.dtype == "float16"))


def _own_scores(run):
    """Scores that do not compete: a weight is its own expert's score, up to a factor that its token shares."""
    l, ids, w = np.asarray(run.inputs["logits"], float), run.outputs.indices, np.asarray(run.outputs.weights, float)
    if run.attrs.get("score", "softmax") == "softmax" or not run.dims.T or not np.isfinite(l).all():
        return None
    odds = np.exp(take(l, ids))
    s = np.where(ids >= 0, odds / (1 + odds) if run.attrs["score"] == "sigmoid" else np.sqrt(np.log1p(odds)), 0.0)
    if run.attrs.get("norm", "none") == "sum":
        s = s * run.attrs.get("scale", 1.0) / np.maximum(s.sum(1, keepdims=True), 1e-20)
    return np.abs(w - s) <= (1e-5 + 16 * run.unit) * s


REQUIREMENTS = (
    Req("ROUTE-1", "Two weights of a token are in the ratio of the exponentials of their logits.", _ratio),
    Req("ROUTE-2", "A token without an expert has weights 0 and gradient 0.",
        lambda r: (r.outputs.indices >= 0).any(1, keepdims=True) | ((r.outputs.weights == 0).all(1, keepdims=True) & (r.grads["logits"] == 0))),
    Req("ROUTE-3", "With a sigmoid or the root of a softplus a weight is its own expert's score, divided only by the sum that is asked for.",
        _own_scores),
)

OP = Op(
    name="gates.route",
    inputs=(Arg("logits", "T E"), Arg("indices", "T K", "index", of="E", optional=True)),
    outputs=(Arg("indices", "T K", "index", of="E"), Arg("weights", "T K")),
    forward=route,
    backward=route_backward,
    steps=route_steps,
    choices={"score": ("softmax",), "over": ("all", "selected")},
    cases=cases,
    invalid=INVALID,
    requirements=REQUIREMENTS,
    check=_check,
    flops=lambda T, E, K, **_: (5 * T * E + 3 * T * K, 4 * T * E + 5 * T * K),
    refs=("docs/design.md",),
)
