"""What the parts of a declaration must have to do with each other: every refusal names the fields and their values."""

from __future__ import annotations

from moespec.layer._router import Router
from moespec.layer._routers import ExpertChoice, Given, Hierarchical, Soft


def fit(spec):
    """Raise a ValueError for parts that do not go together."""
    FITS[type(spec.router)](spec, spec.router, spec.experts)
    if spec.pool is not None:
        _router(spec, spec.pool.router, spec.pool.experts)
    if len({loss.name for loss in spec.losses}) != len(spec.losses):
        raise ValueError(f"LayerSpec: two losses of one op: {[loss.op for loss in spec.losses]}")
    if not isinstance(spec.router, Router) and (spec.experts.classes != spec.experts.n or spec.experts.kind == "singleton"):
        raise ValueError(f"LayerSpec: copies, constants, zeros and singleton experts need a Router, got {type(spec.router).__name__}")
    if spec.combine == "mean" and not spec.shared:
        raise ValueError("LayerSpec: combine='mean' needs a shared expert")
    if sum(s.gate == "router" for s in spec.shared) > 1:
        raise ValueError("LayerSpec: at most one Shared(gate='router')")
    if any(s.gate == "router" for s in spec.shared) and not (isinstance(spec.router, Router) and spec.router.select == "topk"):
        raise ValueError("LayerSpec: Shared(gate='router') needs a Router with select='topk'")


def _router(spec, router, experts):
    n = experts.classes
    if router.k > n:
        raise ValueError(f"LayerSpec: k={router.k} exceeds the {n} experts")
    if router.select == "all" and router.k != n:
        raise ValueError(f"LayerSpec: select='all' takes all {n} experts, got k={router.k}")
    if router.groups:
        _groups(router, n)
    if router.net.kind == "product_keys" and round(n**0.5) ** 2 != n:
        raise ValueError(f"LayerSpec: product keys need a square number of experts, got {n}")
    if router.weigh == "input" and experts.kind == "singleton":
        raise ValueError("LayerSpec: weigh='input' needs rows, singleton experts have none")
    if spec.capacity and (router.select in ("relu", "top_p") or experts.classes != experts.n):
        raise ValueError(f"LayerSpec: capacity needs experts of one kind and a fixed k, got select={router.select!r}, "
                         f"{experts.classes - experts.n} experts without weights")
    if spec.capacity and spec.capacity.reroute and (router.select != "topk" or router.correction or router.groups):
        raise ValueError("LayerSpec: capacity.reroute needs a Router with select='topk'")


def _groups(router, n):
    groups = router.groups
    if n % groups.n:
        raise ValueError(f"LayerSpec: {groups.n} groups do not divide {n} experts")
    if router.k > groups.keep * (n // groups.n):
        raise ValueError(f"LayerSpec: k={router.k} exceeds the {groups.keep * (n // groups.n)} experts of {groups.keep} kept groups")
    if groups.reduce == "top2sum" and n // groups.n < 2:
        raise ValueError(f"LayerSpec: reduce='top2sum' needs two experts in a group, got {n // groups.n}")


def _hierarchical(spec, router, experts):
    n = experts.n
    if n % router.groups:
        raise ValueError(f"LayerSpec: {router.groups} groups do not divide {n} experts")
    if router.secondary.k > n // router.groups:
        raise ValueError(f"LayerSpec: secondary k={router.secondary.k} exceeds the {n // router.groups} experts of a group")
    if spec.capacity and spec.capacity.reroute:
        raise ValueError("LayerSpec: capacity.reroute needs a Router with select='topk'")


def _no_capacity(spec, router, experts):
    if spec.capacity:
        raise ValueError(f"LayerSpec: {type(router).__name__} has a capacity of its own, got {spec.capacity}")
    if isinstance(router, Soft) and (experts.norm or experts.latent or experts.partial):
        raise ValueError("LayerSpec: Soft works on plain experts, without norm, latent or partial")


FITS = {Router: _router, Hierarchical: _hierarchical, ExpertChoice: _no_capacity, Soft: _no_capacity, Given: _no_capacity}
