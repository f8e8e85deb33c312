"""The experts' part of a program: from a routing to the layer's output."""

from __future__ import annotations

from moespec.layer._build_logits import norm
from moespec.layer._build_router import Names
from moespec.op import Step


def routed(spec, steps, routing, x, call):
    """Run the chosen experts; the name of their weighted sum."""
    e = spec.experts
    steps.append(Step("gates.cast_like", f"{routing.weights} x", "combine_weights"))
    seen = routing._replace(weights="combine_weights")
    if e.classes > e.n:
        steps.append(Step("gates.limit_ids", f"{routing.indices} combine_weights", "seen seen_weights", {"experts": e.n}))
        seen = Names("seen", "seen_weights")
    y = _singleton(spec, steps, seen, x) if e.kind == "singleton" else _grouped(spec, steps, seen, x, call)
    if getattr(spec.router, "scale_at", "") == "sum" and spec.router.scale != 1:
        steps.append(Step("gates.rescale", y, "scaled", {"factor": spec.router.scale}))
        y = "scaled"
    return _weightless(e, steps, routing, x, y)


def _singleton(spec, steps, seen, x):
    steps.append(Step("experts.singleton", f"{x} {seen.indices} {seen.weights} experts.w_in experts.w_out", "routed",
                      {"activation": spec.experts.activation}))
    return "routed"


def _grouped(spec, steps, seen, x, call):
    """Plan, permute, the experts, combine."""
    e, weights = spec.experts, seen.weights
    if e.latent:
        x = _into_latent(e, steps, x)
    if e.partial:
        x = _common_hidden(e, steps, x)
    bound = {} if seen.rows is None else {"rows": seen.rows}
    steps.append(Step("dispatch.plan", seen.indices, "token row offsets", {"experts": e.n} | bound))
    steps.append(Step("dispatch.permute", f"{x} token", "rows"))
    rows = "rows"
    if getattr(spec.router, "weigh", "output") == "input":
        steps.append(Step("dispatch.weigh_rows", f"rows {weights} row", "weighted_rows"))
        rows, weights = "weighted_rows", "ones"
    steps += _experts(spec, rows, call)
    out = norm(steps, e.norm, "out", "experts.norm_scale", "out_normed") if e.norm else "out"
    steps.append(Step("dispatch.combine", f"{out} {weights} row", "routed"))
    if e.latent:
        steps.append(Step("experts.linear", f"routed whole latent.w_out{' latent.b_out' if e.latent.bias else ''}", "routed_wide"))
        return "routed_wide"
    if e.partial:
        steps.append(Step("experts.linear", "hidden whole experts.w_rest experts.b_rest", "rest"))
        steps.append(Step("dispatch.concat", "rest routed", "routed_wide"))
        return "routed_wide"
    return "routed"


def _into_latent(e, steps, x):
    steps.append(Step("experts.linear", f"{x} whole latent.w_in{' latent.b_in' if e.latent.bias else ''}", "latent"))
    return norm(steps, e.latent.norm, "latent", "latent.norm_scale", "latent_normed") if e.latent.norm else "latent"


def _common_hidden(e, steps, x):
    steps.append(Step("experts.linear", f"{x} whole experts.w_in experts.b_in", "before"))
    steps.append(Step(f"experts.{e.activation}", "before", "hidden"))
    return "hidden"


def _experts(spec, rows, call):
    e = spec.experts
    if e.kind == "linear":
        return [Step("experts.linear", f"{rows} offsets experts.w" + (" experts.b" if e.bias else ""), "out")]
    steps, mask = [], "-"
    if call.training and e.dropout:
        steps.append(Step("dispatch.scatter_choices", "noise.dropout row", "dropout", {"rows": call.tokens * spec.columns}))
        mask = "dropout"
    return [*steps, unit(e, "experts", rows, "offsets", mask, "out")]


def unit(e, prefix, rows, offsets, mask, out):
    """One step: a gated or a plain unit, whose weights carry `prefix`."""
    if e.kind == "glu":
        biases = "".join(f" {prefix}.{b}" for b in ("b_gate", "b_up", "b_down")) if e.bias else ""
        return Step("experts.glu", f"{rows} {offsets} {prefix}.w_gate {prefix}.w_up {prefix}.w_down {mask}{biases}", out,
                    {"activation": e.activation, **_clamps(e.clamp)})
    biases = f"{prefix}.b_in {prefix}.b_out" if e.bias else "- -"
    return Step("experts.ffn", f"{rows} {offsets} {prefix}.w_in {prefix}.w_out {biases} {mask}", out, {"activation": e.activation})


def _clamps(clamp):
    """The attributes of `experts.glu` that differ from doing nothing."""
    found = {name: getattr(clamp, name) for name in ("limit", "alpha", "cap_gate", "cap_up") if getattr(clamp, name) is not None}
    found |= {"up_offset": clamp.up_offset} if clamp.up_offset else {}
    return found | ({"limit_at": clamp.at} if clamp.limit is not None and clamp.at != "pre" else {})


def _weightless(e, steps, routing, x, y):
    """The experts without matrices: copies and constants, whose ids follow those of the others."""
    at = e.n
    if e.copies:
        steps.append(Step("experts.copy", f"{x} {routing.indices} combine_weights", "copied", {"first": at, "last": at + e.copies}))
        steps.append(Step("dispatch.add", f"{y} copied", "with_copies"))
        y, at = "with_copies", at + e.copies
    if e.constants:
        steps.append(Step("experts.constant", f"{x} {routing.indices} combine_weights experts.w_mix experts.v", "constant", {"first": at}))
        steps.append(Step("dispatch.add", f"{y} constant", "with_constants"))
        y = "with_constants"
    return y


# ---- what every token passes through ---------------------------------------------------------------------------------

def whole_layer(spec, steps, y):
    """Add the shared experts, norm and bias of the layer; the last name written is ``y``."""
    for n, shared in enumerate(spec.shared):
        z = SHARED[shared.gate](spec, steps, shared, f"shared.{n}")
        last = spec.combine == "mean" and n == len(spec.shared) - 1
        steps.append(Step("dispatch.add", f"{y} {z}", f"with_shared.{n}", {"scale": 0.5} if last else {}))
        y = f"with_shared.{n}"
    if spec.norm is not None:
        y = norm(steps, spec.norm, y, "norm.scale", "normed")
    if spec.output_bias:
        steps.append(Step("dispatch.add_bias", f"{y} output.b", "biased"))
        y = "biased"
    at = max(i for i, s in enumerate(steps) if y in s.writes.split())
    steps[at] = steps[at]._replace(writes=" ".join("y" if n == y else n for n in steps[at].writes.split()))


def _plain(spec, steps, shared, prefix):
    steps.append(unit(shared, prefix, "x", "whole", "-", f"{prefix}.out"))
    return f"{prefix}.out"


def _gated(spec, steps, shared, prefix):
    out = _plain(spec, steps, shared, prefix)
    steps.append(Step("gates.linear", f"x {prefix}.gate", f"{prefix}.logit", {"dtype": spec.router.dtype}))
    steps.append(Step("gates.sigmoid", f"{prefix}.logit", f"{prefix}.open_wide"))
    steps.append(Step("gates.cast_like", f"{prefix}.open_wide x", f"{prefix}.open"))
    steps.append(Step("dispatch.gate_rows", f"{out} {prefix}.open", f"{prefix}.gated"))
    return f"{prefix}.gated"


def _weighted(spec, steps, shared, prefix):
    """Several shared experts, weighted by the router: every token chooses all of them."""
    weights = "shared_weights_scaled" if spec.router.learned_scale else "shared_weights"
    steps.append(Step("gates.cast_like", f"{weights} x", f"{prefix}.weights"))
    steps.append(Step("dispatch.plan", "shared_indices", f"{prefix}.token {prefix}.row {prefix}.offsets", {"experts": shared.n}))
    steps.append(Step("dispatch.permute", f"x {prefix}.token", f"{prefix}.rows"))
    steps.append(unit(shared, prefix, f"{prefix}.rows", f"{prefix}.offsets", "-", f"{prefix}.out"))
    steps.append(Step("dispatch.combine", f"{prefix}.out {prefix}.weights {prefix}.row", f"{prefix}.sum"))
    return f"{prefix}.sum"


SHARED = {None: _plain, "sigmoid": _gated, "router": _weighted}
