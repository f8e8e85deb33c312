"""From a declaration to its program: the straight line of ops that forward, backward, cost and docs read."""

from __future__ import annotations

from moespec import program
from moespec.layer._build_capacity import limit
from moespec.layer._build_experts import routed, whole_layer
from moespec.layer._build_logits import Call
from moespec.layer._build_losses import losses
from moespec.layer._build_router import ROUTES, Names
from moespec.layer._build_soft import soft
from moespec.layer._routers import Soft
from moespec.op import Step


def build(spec, tokens: int, *, rows: int = 1, training: bool = False, inputs=()) -> tuple[Step, ...]:
    """The program of `spec` for `tokens` tokens in `rows` batch rows; `inputs` are the names that the caller gives."""
    steps: list[Step] = []
    call = Call(tokens, rows, training, inputs)
    y = soft(spec, steps, rows) if isinstance(spec.router, Soft) else _discrete(spec, steps, call)
    if spec.pool is not None:
        y = _pool(spec, steps, y, call)
    whole_layer(spec, steps, y)
    losses(spec, steps, inputs)
    program.check(steps, inputs)
    return tuple(steps)


def final_routing(steps) -> Names | None:
    """The names of the routing that the experts saw; None for a soft layer."""
    cast = next((s for s in steps if s.op == "gates.cast_like" and s.writes == "combine_weights"), None)
    if cast is None:
        return None
    reads = {name for s in steps for name in s.reads.split()}
    return Names("seen", cast.writes) if "seen" in reads else Names(_ids_of(steps), cast.writes)


def _ids_of(steps):
    return next(s.reads.split()[0 if s.op == "dispatch.plan" else 1] for s in steps if s.op in ("dispatch.plan", "experts.singleton"))


def _discrete(spec, steps, call):
    """Route, limit, and run the chosen experts; the name of their weighted sum."""
    jitter = getattr(spec.router, "jitter", 0.0) if call.training else 0.0
    source = "x"
    if jitter:
        steps.append(Step("gates.jitter", "x noise.jitter", "x_jittered"))
        source = "x_jittered"
    routing = ROUTES[type(spec.router)](spec, steps, source, call)
    if spec.capacity is not None:
        routing = limit(spec, steps, routing, call)
    both = jitter and spec.router.jitter_to == "both"
    return routed(spec, steps, routing, source if both else "x", call)


def _pool(spec, steps, y, call):
    """The second router and its experts: their names carry the prefix ``pool.``, each side sees the tokens of its kind."""
    by = spec.pool.by
    other = type(spec)(router=spec.pool.router, experts=spec.pool.experts)
    inner: list[Step] = []
    z = _discrete(other, inner, call)
    own = {name: f"pool.{name}" for s in inner for name in (*s.reads.split(), *s.writes.split()) if name not in ("x", "-", "whole", "ones")}
    moved = [s._replace(reads=" ".join(own.get(n, n) for n in s.reads.split()), writes=" ".join(own[n] for n in s.writes.split())) for s in inner]
    _only(steps, by, False)
    _only(moved, by, True)
    steps += moved
    steps.append(Step("dispatch.add", f"{y} {own[z]}", "pooled"))
    return "pooled"


def _only(steps, by, other):
    """Let the plan see the tokens of one kind only."""
    at = next(i for i, s in enumerate(steps) if s.op == "dispatch.plan")
    ids = steps[at].reads
    steps[at:at + 1] = [Step("gates.of_kind", f"{ids} {by}", f"{ids}_of_kind", {"other": other}), steps[at]._replace(reads=f"{ids}_of_kind")]
