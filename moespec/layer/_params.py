"""The parameters of a layer: names and shapes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType

from moespec.layer._router import Router
from moespec.layer._routers import ExpertChoice, Given, Hierarchical, Soft

Shapes = dict[str, tuple[int, ...]]


@lru_cache(maxsize=256)
def parameter_shapes(spec, d_model: int) -> Mapping[str, tuple[int, ...]]:
    """The shape of every parameter by its dotted name, in the order in which they are drawn."""
    shapes = _router_shapes(spec, d_model) | _expert_shapes(spec.experts, d_model)
    for n, shared in enumerate(spec.shared):
        shapes |= _unit(shared, f"shared.{n}", shared.n, d_model, d_model)
        shapes |= {f"shared.{n}.gate": (d_model, 1)} if shared.gate == "sigmoid" else {}
    shapes |= {"norm.scale": (d_model,)} if spec.norm and spec.norm.learned else {}
    shapes |= {"output.b": (d_model,)} if spec.output_bias else {}
    if spec.pool is not None:
        other = type(spec)(router=spec.pool.router, experts=spec.pool.experts)
        shapes |= {f"pool.{name}": shape for name, shape in parameter_shapes(other, d_model).items()}
    return MappingProxyType(shapes)


def integers(spec) -> dict[str, int]:
    """Parameters that hold expert ids, and how many experts there are: the tables of hash layers."""
    return {"router.table": spec.experts.classes} if getattr(spec.router, "vocab", 0) else {}


def _router_shapes(spec, d) -> Shapes:
    return ROUTERS[type(spec.router)](spec, spec.router, d)


def _matrices(prefix, router, d, columns) -> Shapes:
    return {f"{prefix}.w": (d, columns)} | ({f"{prefix}.w_noise": (d, columns)} if router.noise == "softplus" else {})


def _token_choice(spec, router, d) -> Shapes:
    n = spec.experts.classes
    shapes = NETS[router.net.kind](router, d, n)
    shapes |= {"router.thresholds": (n,)} if router.select == "batchwise" else {}
    shapes |= {"router.table": (router.vocab, router.k)} if router.select == "table" else {}
    shapes |= {"router.correction": (n,)} if router.correction else {}
    joint = next((s.n for s in spec.shared if s.gate == "router"), 0)
    shapes |= {"router.w_shared": (d, joint)} if joint else {}
    shapes |= {"router.scale": ()} if router.learned_scale else {}
    return shapes | ({"router.expert_scale": (n,)} if router.expert_scale else {})


def _linear(router, d, n) -> Shapes:
    net = router.net
    shapes = {"router.norm_scale": (d,)} if net.norm and net.norm.learned else {}
    return shapes | _matrices("router", router, d, n) | ({"router.b": (n,)} if net.bias else {})


def _mlp(router, d, n) -> Shapes:
    net, h = router.net, router.net.hidden
    shapes = {"router.w_in": (d, h), "router.b_in": (h,)} | ({"router.memory_scale": (h,)} if net.memory else {})
    shapes |= {"router.norm_scale": (h,)} if net.norm and net.norm.learned else {}
    return shapes | {"router.w_1": (h, h), "router.b_1": (h,), "router.w_2": (h, h), "router.b_2": (h,), "router.w": (h, n)}


def _product_keys(router, d, n) -> Shapes:
    return {"router.w_first": (d, math.isqrt(n)), "router.w_second": (d, math.isqrt(n))}


NETS = {"linear": _linear, "mlp": _mlp, "product_keys": _product_keys}


def _hierarchical(spec, router, d) -> Shapes:
    return _matrices("router.primary", router.primary, d, router.groups) | _matrices("router.secondary", router.secondary, d, spec.experts.n)


def _expert_choice(spec, router, d) -> Shapes:
    shapes = {"router.norm_scale": (d,)} if router.net.norm and router.net.norm.learned else {}
    return shapes | {"router.w": (d, spec.experts.n)} | ({"router.b": (spec.experts.n,)} if router.net.bias else {})


def _soft(spec, router, d) -> Shapes:
    return {"router.w": (d, spec.experts.n * router.slots)} | ({"router.scale": ()} if router.normalize else {})


def _given(spec, router, d) -> Shapes:
    return {"router.table": (router.vocab, router.k)} if router.vocab else {}


ROUTERS = {Router: _token_choice, Hierarchical: _hierarchical, ExpertChoice: _expert_choice, Soft: _soft, Given: _given}


def _expert_shapes(e, d) -> Shapes:
    if e.kind == "singleton":
        return {"experts.w_in": (e.n, d), "experts.w_out": (e.n, d)}
    shapes: Shapes = {}
    inner = d
    if e.latent:
        inner = e.latent.width
        shapes |= {"latent.w_in": (1, d, inner), "latent.w_out": (1, inner, d)}
        shapes |= {"latent.b_in": (1, inner), "latent.b_out": (1, d)} if e.latent.bias else {}
        shapes |= {"latent.norm_scale": (inner,)} if e.latent.norm and e.latent.norm.learned else {}
    if e.partial:
        rest = d - e.partial
        shapes |= {"experts.w_in": (1, d, e.width), "experts.b_in": (1, e.width), "experts.w_rest": (1, e.width, rest), "experts.b_rest": (1, rest)}
    shapes |= _linear_unit(e, d) if e.kind == "linear" else _unit(e, "experts", e.n, inner, inner)
    shapes |= {"experts.norm_scale": (inner,)} if e.norm and e.norm.learned else {}
    return shapes | ({"experts.w_mix": (e.constants, d, 2), "experts.v": (e.constants, d)} if e.constants else {})


def _linear_unit(e, d) -> Shapes:
    into, out = (e.width, e.partial) if e.partial else (d, e.features or d)
    return {"experts.w": (e.n, into, out)} | ({"experts.b": (e.n, out)} if e.bias else {})


def _unit(e, prefix, n, d, out) -> Shapes:
    """The matrices and biases of `n` gated or plain units."""
    f = e.width
    if e.kind == "glu":
        shapes = {f"{prefix}.w_gate": (n, d, f), f"{prefix}.w_up": (n, d, f), f"{prefix}.w_down": (n, f, out)}
        return shapes | ({f"{prefix}.b_gate": (n, f), f"{prefix}.b_up": (n, f), f"{prefix}.b_down": (n, out)} if e.bias else {})
    shapes = {f"{prefix}.w_in": (n, d, f), f"{prefix}.w_out": (n, f, out)}
    return shapes | ({f"{prefix}.b_in": (n, f), f"{prefix}.b_out": (n, out)} if e.bias else {})
