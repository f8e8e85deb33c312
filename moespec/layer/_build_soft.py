"""The program of a soft layer: every slot is a mixture of tokens, every token a mixture of slots."""

from __future__ import annotations

from moespec.layer._build_experts import unit
from moespec.op import Step


def soft(spec, steps, rows):
    """Slots, experts, mixture; the name of the output."""
    router = spec.router
    group, groups = ("group", rows) if router.scope == "row" else ("-", 1)
    x, w = "x", "router.w"
    if router.normalize:
        steps.append(Step("gates.l2_normalize", "x", "x_unit"))
        steps.append(Step("gates.l2_normalize", "router.w router.scale", "w_unit", {"axis": 0}))
        x, w = "x_unit", "w_unit"
    steps.append(Step("gates.linear", f"{x} {w}", "logits", {"dtype": router.dtype}))
    steps.append(Step("gates.soft", f"logits {group}", "dispatch combine"))
    steps.append(Step("dispatch.mix", f"x dispatch {group}", "rows offsets", {"experts": spec.experts.n, "groups": groups}))
    steps.append(unit(spec.experts, "experts", "rows", "offsets", "-", "out"))
    steps.append(Step("dispatch.unmix", f"out combine {group}", "routed", {"groups": groups}))
    return "routed"
