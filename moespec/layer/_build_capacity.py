"""The part of a program that limits how many tokens an expert takes."""

from __future__ import annotations

from moespec.dispatch import capacity as capacity_of
from moespec.layer._build_router import NOWHERE, Names
from moespec.op import Step


def limit(spec, steps, routing, call):
    """Drop or reroute what exceeds the capacity, then settle the weights of what stays."""
    rule, router = spec.capacity, spec.router
    per_row = rule.scope == "row"
    size = _size(spec, call.per_row if per_row else call.tokens, call.training)
    group = "group" if per_row else "-"
    how = getattr(router, "norm", "none")
    scale = {"norm": how, "eps": getattr(router, "eps", 0.0), "scale": getattr(router, "scale", 1.0)}
    if not rule.reroute:
        order = "noise.order" if rule.order == "random" else "-"
        priority = routing.weights if rule.order in ("score", "batch") else "-"
        steps.append(Step("dispatch.drop", f"{routing.indices} {priority} {order} {group}", "kept",
                          {"experts": spec.experts.n, "capacity": size, "order": rule.order}))
        weigh = scale if rule.reweigh == "after" and how != "none" else {"norm": "none"}
        steps.append(Step("gates.renormalize", f"{routing.weights} kept", "kept_weights", weigh))
        return Names("kept", "kept_weights")
    scores = "scores" if router.over == "all" else "logits"
    steps.append(Step("dispatch.reroute", f"{routing.indices} {scores} {group}", "kept", {"capacity": size}))
    steps.append(Step("gates.gather", f"{scores} kept", "kept_scores", {"missing": 0.0 if router.over == "all" else NOWHERE}))
    chosen = "kept_scores"
    if router.over == "selected":
        steps.append(Step(f"gates.selected_{router.score}", "kept_scores kept", "kept_shares"))
        chosen = "kept_shares"
    steps.append(Step("gates.renormalize", f"{chosen} kept", "kept_weights", scale))
    return Names("kept", "kept_weights")


def _size(spec, tokens, training):
    """The capacity in tokens."""
    rule = spec.capacity
    evaluated = not training and rule.eval_factor is not None
    if rule.fixed is not None and not evaluated:
        return rule.fixed
    factor = rule.eval_factor if evaluated else rule.factor
    formula = rule.eval_formula if evaluated and rule.eval_formula else rule.formula
    return capacity_of(tokens, spec.experts.n, spec.router.k, factor, formula=formula, minimum=rule.minimum, multiple=rule.multiple)
