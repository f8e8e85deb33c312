"""The program of a soft layer: every slot is a mixture of tokens, every token a mixture of slots."""

from __future__ import annotations

from moespec.layer._build_experts import unit
from moespec.op import Step


def soft(spec, steps):
    """Slots, experts, mixture; the name of the output."""
    router, group = spec.router, "group" if spec.router.scope == "row" else "-"
    x, w, logits = "x", "router.w", "logits"
    if router.normalize:
        steps.append(Step("gates.l2_normalize", "x", "x_unit"))
        steps.append(Step("gates.l2_normalize", "router.w", "w_unit", {"axis": 0}))
        x, w, logits = "x_unit", "w_unit", "cosines"
    steps.append(Step("gates.linear", f"{x} {w}", logits, {"dtype": router.dtype}))
    if router.normalize:
        steps.append(Step("gates.scale_weights", "cosines router.scale", "logits"))
    steps.append(Step("gates.soft", f"logits {group}", "dispatch combine"))
    steps.append(Step("dispatch.mix", f"x dispatch {group}", "rows offsets", {"experts": spec.experts.n}))
    steps.append(unit(spec.experts, "experts", "rows", "offsets", "-", "out"))
    steps.append(Step("dispatch.unmix", f"out combine {group}", "routed"))
    return "routed"
