"""Lines that a backend has as one composite, in one."""

import numpy as np
import pytest

from moespec import Loss, backward, forward
from moespec.fuse import fuse
from moespec.layer._build import build
from moespec.models import mixtral
from moespec.op import Step
from moespec.program import Impl, lookup

SPEC = mixtral(8, 6, 2)
INPUTS = ("x", "router.w", "experts.w_gate", "experts.w_up", "experts.w_down", "indices")


def native(*names, supports=lambda **attrs: None):
    return {name: Impl(lookup(name).forward, lookup(name).backward, supports) for name in names}


BOTH = native("gates.route", "experts.moe")


def ops(steps):
    return [s.op for s in steps]


def test_route_and_experts_become_one_line_each():
    linear, route, cast, moe = fuse(build(SPEC, 5, inputs=INPUTS), BOTH)
    assert (linear.op, cast.op) == ("gates.linear", "gates.cast_like")
    assert route[:3] == ("gates.route", "logits indices", "indices weights")
    assert {"k": 2, "score": "softmax", "over": "selected", "norm": "none"}.items() <= route.attrs.items()
    assert moe[:3] == ("experts.moe", "x indices combine_weights experts.w_gate experts.w_up experts.w_down - - -", "y")
    assert moe.attrs["activation"] == "silu"


def test_with_its_router_the_layer_is_one_line():
    (block,) = fuse(build(SPEC, 5, inputs=INPUTS), {**BOTH, **native("experts.moe_block")})
    assert block[:3] == ("experts.moe_block", "x router.w experts.w_gate experts.w_up experts.w_down - - - - indices",
                         "logits indices weights combine_weights y")
    assert {"dtype": "float32", "k": 2, "over": "selected", "activation": "silu"}.items() <= block.attrs.items()
    assert len(fuse(build(SPEC, 5, inputs=INPUTS), native("experts.moe_block"))) > 4       # made of the other two


def test_nothing_is_fused_that_the_backend_does_not_have():
    steps = build(SPEC, 5, inputs=INPUTS)
    assert fuse(steps, {}) == steps
    assert "experts.moe" not in ops(fuse(steps, native("gates.route")))
    refusing = native("experts.moe", supports=lambda activation, **_: f"no {activation}")
    assert fuse(steps, refusing) == steps


def test_a_name_that_is_kept_keeps_its_lines():
    steps = build(SPEC, 5, inputs=INPUTS)
    assert ops(fuse(steps, BOTH, {"rows"}))[-4:] == ["dispatch.plan", "dispatch.permute", "experts.glu", "dispatch.combine"]
    assert "experts.moe" in ops(fuse(steps, BOTH, {"chosen_logits"}))
    assert "gates.route" not in ops(fuse(steps, BOTH, {"chosen_logits"}))


def test_a_name_that_another_line_reads_keeps_its_lines():
    steps = build(SPEC, 5, inputs=INPUTS)
    reader = Step("gates.gather", "chosen_logits indices", "again")
    assert "gates.route" not in ops(fuse((*steps, reader), BOTH))


@pytest.mark.parametrize("changed", [
    {"op": "dispatch.permute", "reads": "x_jittered token"},           # fits: another name for x
    {"op": "experts.glu", "reads": "rows offsets experts.w_gate experts.w_up experts.w_down mask"},
    {"op": "dispatch.combine", "reads": "out combine_weights token"},
])
def test_names_must_fit(changed):
    steps = [s._replace(reads=changed["reads"]) if s.op == changed["op"] else s for s in build(SPEC, 5, inputs=INPUTS)]
    assert ("experts.moe" in ops(fuse(tuple(steps), BOTH))) == (changed["op"] == "dispatch.permute")


@pytest.mark.parametrize("keep", [(), "all"])
def test_the_same_results(keep):
    pytest.importorskip("numba", reason="the extra `numba` is not installed")
    rng = np.random.default_rng(0)
    weights, x, dy = SPEC.init(4, rng=1), rng.standard_normal((7, 4)), rng.standard_normal((7, 4))
    from moespec_numba import BACKEND
    out, saved = forward(SPEC, weights, x, backend=BACKEND, keep=keep)
    assert ("rows" in out.values) == (keep == "all")
    wanted, of_reference = forward(SPEC, weights, x)
    np.testing.assert_allclose(out.y, wanted.y, rtol=1e-12, atol=1e-12)
    assert np.array_equal(out.routing.indices, wanted.routing.indices)
    grads, expected = backward(saved, dy), backward(of_reference, dy)
    for name in weights:
        np.testing.assert_allclose(grads.params[name], expected.params[name], rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(grads.x, expected.x, rtol=1e-10, atol=1e-12)


def test_a_loss_that_reads_what_is_inside_finds_it():
    pytest.importorskip("numba", reason="the extra `numba` is not installed")
    from dataclasses import replace

    from moespec_numba import BACKEND
    spec = replace(SPEC, router=replace(SPEC.router, over="all", norm="sum"), losses=(Loss("losses.load_balance", coef=0.1),))
    rng = np.random.default_rng(0)
    weights, x = spec.init(4, rng=1), rng.standard_normal((7, 4))
    out, _ = forward(spec, weights, x, backend=BACKEND)
    wanted, _ = forward(spec, weights, x)
    np.testing.assert_allclose(list(out.losses.values()), list(wanted.losses.values()), rtol=1e-12)
