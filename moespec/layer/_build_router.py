"""The router's part of a program: selection and weights."""

from __future__ import annotations

from typing import NamedTuple

from moespec.dispatch import capacity as capacity_of
from moespec.layer._build_logits import linear, plain_net, to_logits
from moespec.layer._router import Router
from moespec.layer._routers import ExpertChoice, Given, Hierarchical
from moespec.op import Step
from moespec.program import lookup

NOWHERE = float("-inf")


class Names(NamedTuple):
    """Where the routing stands at a point of the program."""

    indices: str
    weights: str
    rows: int | None = None         # a bound on the assignments, where it is less than tokens times columns


def token_choice(spec, steps, source, call):
    """Logits, then what the router's `select` says, then the scales."""
    router = spec.router
    to_logits(router, steps, source, call)
    routing = SELECT[router.select](spec, steps, call.training)
    return _scales(spec, steps, routing)


def _weigh_attrs(spec):
    """What `gates.renormalize` is given: nothing where the weights are normalised after the drop."""
    router = spec.router
    if spec.capacity is not None and spec.capacity.reweigh == "after":
        return {"norm": "none"}
    scale = router.scale if router.scale_at == "weights" else 1.0
    power = {"p": router.p} if router.norm == "lp" else {}
    return {"norm": router.norm, "eps": router.eps, "scale": scale, **power}


def _topk(spec, steps, training):
    router = spec.router
    if router.net.kind == "product_keys":
        return _product_keys(spec, steps)
    if not (router.correction or router.groups or _joint(spec) or router.norm == "lp"):
        attrs = {"k": router.k, "score": router.score, "over": router.over, **_weigh_attrs(spec)}
        steps += lookup("gates.route").line({"E": spec.experts.classes}, **attrs)
        return _accepted(router, steps)
    on = "scores" if router.over == "all" else "logits"
    if router.over == "all":
        steps.append(Step(f"gates.{router.score}", "logits", "scores"))
    limited = {}
    if router.groups:
        groups = router.groups
        limited = {"groups": groups.n, "keep": groups.keep, "reduce": groups.reduce, "base": groups.base, "fill": float(groups.fill)}
    bias = "router.correction" if router.correction else "-"
    steps.append(Step("gates.select", f"{on} {bias} indices", "indices", {"k": router.k, **limited}))
    return _accepted(router, steps, _weigh(spec, steps))


def _joint(spec):
    return any(s.gate == "router" for s in spec.shared)


def _weigh(spec, steps):
    """The weights of given `indices`, from scores or logits."""
    router = spec.router
    if router.over == "all":
        steps.append(Step("gates.gather", "scores indices", "chosen"))
    else:
        steps.append(Step("gates.gather", "logits indices", "chosen_logits", {"missing": NOWHERE}))
        steps.append(Step(f"gates.selected_{router.score}", "chosen_logits indices", "chosen"))
    if not _joint(spec):
        steps.append(Step("gates.renormalize", "chosen indices", "weights", _weigh_attrs(spec)))
        return Names("indices", "weights")
    steps.append(Step("gates.linear", "x router.w_shared", "shared_logits", {"dtype": router.dtype}))
    steps.append(Step(f"gates.{router.score}", "shared_logits", "shared_scores"))
    attrs = {"eps": router.eps, "scale": router.scale}
    steps.append(Step("gates.joint_weights", "chosen shared_scores indices", "weights shared_weights", attrs))
    return Names("indices", "weights")


def _accepted(router, steps, routing=Names("indices", "weights")):      # noqa: B008  (immutable)
    if router.accept is None:
        return routing
    steps.append(Step("gates.accept", f"{routing.indices} {routing.weights} noise.accept", "accepted accepted_weights",
                      {"rule": router.accept, "threshold": router.threshold}))
    return Names("accepted", "accepted_weights")


def _product_keys(spec, steps):
    router = spec.router
    steps.append(Step("gates.product_keys", "first second indices", "indices pair_logits", {"k": router.k}))
    steps.append(Step(f"gates.selected_{router.score}", "pair_logits indices", "chosen"))
    steps.append(Step("gates.renormalize", "chosen indices", "weights", _weigh_attrs(spec)))
    return Names("indices", "weights")


def _batchwise(spec, steps, training):
    if training:
        steps.append(Step("gates.batchwise", "logits indices", "indices weights", {"k": spec.router.k}))
    else:
        steps.append(Step("gates.threshold", "logits router.thresholds indices", "indices weights"))
    return Names("indices", "weights")


def _sparsemixer(spec, steps, training):
    noise = "noise.logits noise.heun" if training else "- -"
    steps.append(Step("gates.sparsemixer", f"logits indices {noise}", "indices weights", {"k": spec.router.k, "eps": spec.router.threshold}))
    return Names("indices", "weights")


def _relu(spec, steps, training):
    steps.append(Step("gates.relu_route", "logits indices", "indices weights"))
    return Names("indices", "weights")


def _top_p(spec, steps, training):
    router = spec.router
    steps.append(Step(f"gates.{router.score}", "logits", "scores"))
    steps.append(Step("gates.top_p", "scores indices", "indices chosen", {"p": router.p, "at_most": router.k}))
    steps.append(Step("gates.renormalize", "chosen indices", "weights", _weigh_attrs(spec)))
    return Names("indices", "weights")


def _balanced(op, attrs=None):
    """Balanced over the batch in training, top-k in evaluation; the weights are the router's own scores in both."""
    def select(spec, steps, training):
        router = spec.router
        if not training:
            return _topk(spec, steps, training)
        if router.over == "all":
            steps.append(Step(f"gates.{router.score}", "logits", "scores"))
        steps.extend(op(router))
        return _weigh(spec, steps)
    return select


def _assign(router):
    return (Step("gates.assign", "logits indices", "indices"),)


def _sinkhorn(router):
    return Step("gates.sinkhorn", "logits", "plan"), Step("gates.topk", "plan indices", "indices", {"k": router.k})


def _table(spec, steps, training):
    if spec.router.over == "all":
        steps.append(Step(f"gates.{spec.router.score}", "logits", "scores"))
    steps.append(Step("gates.lookup", "input_ids router.table", "indices"))
    return _weigh(spec, steps)


SELECT = {"topk": _topk, "all": _topk, "batchwise": _batchwise, "sparsemixer": _sparsemixer, "relu": _relu, "top_p": _top_p,
          "assign": _balanced(_assign), "sinkhorn": _balanced(_sinkhorn), "table": _table}


def _scales(spec, steps, routing):
    """The learned scales of the weights."""
    router, weights = spec.router, routing.weights
    if router.learned_scale:
        steps.append(Step("gates.scale_weights", f"{weights} router.scale", f"{weights}_scaled"))
        weights = f"{weights}_scaled"
        if _joint(spec):
            steps.append(Step("gates.scale_weights", "shared_weights router.scale", "shared_weights_scaled"))
    if router.expert_scale:
        steps.append(Step("gates.scale_experts", f"{weights} {routing.indices} router.expert_scale", f"{weights}_by_expert"))
        weights = f"{weights}_by_expert"
    return Names(routing.indices, weights)


# ---- the other routers -----------------------------------------------------------------------------------------------

def _hierarchical(spec, steps, source, call):
    router = spec.router
    linear(router.primary, steps, source, "logits_primary", "router.primary", "_primary")
    steps.append(Step("gates.topk_softmax", "logits_primary group_indices", "group_indices group_weights", {"k": router.primary.k}))
    linear(router.secondary, steps, source, "logits", "router.secondary")
    steps.append(Step("gates.hierarchical", "group_indices group_weights logits indices", "indices weights",
                      {"k": router.secondary.k, "groups": router.groups}))
    return Names("indices", "weights")


def _expert_choice(spec, steps, source, call):
    router = spec.router
    plain_net(router, steps, source, "logits", call)
    scores = "logits"
    if router.score != "none":
        steps.append(Step(f"gates.{router.score}", "logits", "scores"))
        scores = "scores"
    own = call.per_row if router.scope == "row" else call.tokens
    size = min(own, max(1, capacity_of(own, spec.experts.n, 1, router.factor, formula="switch")))
    group = "group" if router.scope == "row" else "-"
    steps.append(Step("gates.expert_choice", f"{scores} {group} indices", "indices weights", {"capacity": size}))
    return Names("indices", "weights", spec.experts.n * size * (call.tokens // own if own else 0))


def _given(spec, steps, source, call):
    router = spec.router
    if router.vocab:
        steps.append(Step("gates.lookup", f"{router.by} router.table", "indices"))
        return Names("indices", "ones")
    return Names(router.by, "ones")


ROUTES = {Router: token_choice, Hierarchical: _hierarchical, ExpertChoice: _expert_choice, Given: _given}
