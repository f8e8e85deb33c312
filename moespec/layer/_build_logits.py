"""The first part of a program: from tokens to logits."""

from __future__ import annotations

from collections.abc import Container
from typing import NamedTuple

from moespec.op import Step


class Call(NamedTuple):
    """What a program is built for."""

    tokens: int
    rows: int                       # batch rows
    training: bool
    inputs: Container[str]          # the names that the caller gives

    @property
    def per_row(self):
        return self.tokens // self.rows if self.rows else self.tokens


def to_logits(router, steps, source, call):
    """Tokens to logits, with whatever is done to them before a score."""
    if router.net.kind == "product_keys":
        for half in ("first", "second"):
            steps.append(Step("gates.linear", f"{source} router.w_{half}", half, {"dtype": router.dtype}))
        return
    line = _changes(router.net)
    noisy = router.noise in ("gaussian", "gumbel") and call.training
    first = "clean" if noisy else "logits"
    raw = "raw_logits" if line else first
    NETS[router.net.kind](router, steps, source, raw, call)
    for n, (op, attrs) in enumerate(line):
        out = first if n == len(line) - 1 else f"{raw}_{n}"
        steps.append(Step(op, raw if n == 0 else f"{raw}_{n - 1}", out, attrs))
    if noisy:
        steps.append(Step("gates.add_noise", "clean noise.logits", "logits", {"scale": router.noise_scale}))


def _changes(net):
    found = [("gates.rescale", {"factor": net.multiplier})] if net.multiplier != 1 else []
    return found + ([("gates.softcap", {"cap": net.cap})] if net.cap is not None else [])


def plain_net(router, steps, source, out, call):
    net = router.net
    if net.norm is not None:
        source = norm(steps, net.norm, source, "router.norm_scale", "x_normed")
    linear(router, steps, source, out, bias=" router.b" if net.bias else "")


def linear(router, steps, source, out, prefix="router", suffix="", bias=""):
    """One matrix, with tunable noise where it is declared; `suffix` tells the second level's names apart."""
    dtype = {"dtype": router.dtype}
    if getattr(router, "noise", None) != "softplus":
        steps.append(Step("gates.linear", f"{source} {prefix}.w{bias}", out, dtype))
        return
    steps.append(Step("gates.linear", f"{source} {prefix}.w", f"clean{suffix}", dtype))
    steps.append(Step("gates.linear", f"{source} {prefix}.w_noise", f"raw{suffix}", dtype))
    steps.append(Step("gates.noisy_logits", f"clean{suffix} raw{suffix} noise.logits{suffix}", f"{out} sigma{suffix}", {"floor": router.floor}))


def norm(steps, declared, source, scale, out):
    """A root-mean-square norm; the name of what it writes."""
    reads = f"{source} {scale}" if declared.learned else source
    attrs = {"eps": declared.eps, "factor": declared.factor}
    attrs |= {"offset": declared.offset} if declared.offset else {}
    attrs |= {"before": True} if declared.scale_at == "input" else {}
    steps.append(Step("gates.rms_norm", reads, out, attrs))
    return out


def _mlp(router, steps, source, out, call):
    """A projection, the previous layer's added, a norm, two layers of GELUs, the logits."""
    dtype = {"dtype": router.dtype}
    before = router.net.memory and "router_states" in call.inputs
    steps.append(Step("gates.linear", f"{source} router.w_in router.b_in", "projected" if before else "router_state", dtype))
    if before:
        steps.append(Step("gates.mix_in", "projected router_states router.memory_scale", "router_state"))
    at = "router_state"
    if router.net.norm is not None:
        at = norm(steps, router.net.norm, at, "router.norm_scale", "router_normed")
    for n in (1, 2):
        steps.append(Step("gates.linear", f"{at} router.w_{n} router.b_{n}", f"router_pre{n}", dtype))
        steps.append(Step("experts.gelu", f"router_pre{n}", f"router_hidden{n}"))
        at = f"router_hidden{n}"
    steps.append(Step("gates.linear", f"{at} router.w", out, dtype))


NETS = {"linear": plain_net, "mlp": _mlp}
