"""Every field of the declaration: gradients, few tokens, JSON, and what is refused."""

import json

import numpy as np
import pytest
from layer_specs import GLU, SPECS, prepared

import moespec
from moespec.layer import (
    Capacity,
    Clamp,
    ExpertChoice,
    Experts,
    Given,
    Groups,
    LayerSpec,
    Net,
    Norm,
    Router,
    Shared,
)


@pytest.mark.parametrize("name", SPECS)
def test_gradients_by_differences(name):
    spec = SPECS[name]
    params, x, given, rng = prepared(spec)
    out, saved = moespec.forward(spec, params, x, **given)
    replay = {n: out.values[n] for n in ("indices", "pool.indices") if out.values.get(n) is not None and n in read_as_input(saved)}
    given["context"] = {**given["context"], **replay}
    dy = rng.standard_normal(out.y.shape)

    def total(params, x):
        found, _ = moespec.forward(spec, params, x, **given)
        return (found.y * dy).sum() + sum(found.losses.values())

    grads = moespec.backward(saved, dy)
    assert set(grads.params) == set(params)
    for key in ("x", *(k for k, v in params.items() if v.dtype.kind == "f" and not k.endswith("correction"))):
        value, grad = (x, grads.x) if key == "x" else (params[key], grads.params[key])
        v, h = rng.standard_normal(value.shape), 1e-6
        up, down = (total(params, x + s * h * v) if key == "x" else total({**params, key: value + s * h * v}, x) for s in (1, -1))
        assert (grad * v).sum() == pytest.approx((up - down) / (2 * h), rel=1e-6, abs=1e-8), key
    assert all(not grads.params[k].any() for k in params if k.endswith("correction"))


def read_as_input(saved):
    """Selections that a program takes back as an input."""
    return {n for s in saved.trace.steps for n in set(s.reads.split()) & set(s.writes.split())}


@pytest.mark.parametrize("tokens", [(0,), (1,), (3, 0)])
@pytest.mark.parametrize("name", SPECS)
def test_few_or_no_tokens(name, tokens):
    if name == "assign" and tokens == (1,):
        tokens = (4,)                                     # as many tokens as experts
    spec = SPECS[name]
    params, x, given, _ = prepared(spec, tokens=tokens)
    out, saved = moespec.forward(spec, params, x, **given)
    grads = moespec.backward(saved, np.ones_like(out.y))
    assert out.y.shape == x.shape
    assert all(np.isfinite(g).all() for g in (grads.x, *grads.params.values()))


@pytest.mark.parametrize("name", SPECS)
def test_json_round_trip(name):
    assert LayerSpec.from_dict(json.loads(json.dumps(SPECS[name].to_dict()))) == SPECS[name]


@pytest.mark.parametrize("name", SPECS)
def test_evaluation_is_deterministic(name):
    spec = SPECS[name]
    params, x, given, _ = prepared(spec)
    a, b = (moespec.forward(spec, params, x, rng=r, context=given["context"])[0].y for r in (1, 2))
    assert np.array_equal(a, b)


# ---- what is refused -------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("make", "message"), [
    (lambda: LayerSpec(Router(k=3, groups=Groups(2, 1)), GLU), "k=3 exceeds the 2 experts of 1 kept groups"),
    (lambda: LayerSpec(Router(k=1, groups=Groups(3, 1)), GLU), "3 groups do not divide 4 experts"),
    (lambda: LayerSpec(Router(k=1, groups=Groups(4, 1)), GLU), "reduce='top2sum' needs two experts in a group, got 1"),
    (lambda: Groups(2, 3), "Groups: keep=3 must be in 1 .. 2"),
    (lambda: Router(over="selected", groups=Groups(2, 1)), "groups select on scores"),
    (lambda: ExpertChoice(groups=Groups(2, 1)), "groups"),
    (lambda: LayerSpec.from_dict({"router": {"type": "ExpertChoice", "groups": {"n": 2, "keep": 1}}, "experts": {"n": 4, "width": 5}}), "groups"),
    (lambda: LayerSpec.from_dict({"router": {"type": "Hard"}, "experts": {"n": 4, "width": 5}}), "type='Hard' is not one of 'Router'"),
    (lambda: Router(select="relu", correction=True), "correction=True needs select='topk'"),
    (lambda: Router(select="sparsemixer", norm="sum"), "weighs by itself"),
    (lambda: Router(select="table"), "vocab=0 must be at least 1"),
    (lambda: Router(net=Net("product_keys")), "product keys score the selected pairs"),
    (lambda: LayerSpec(Router(k=2, over="selected", net=Net("product_keys")), GLU.__class__(8, 5)), "square number of experts, got 8"),
    (lambda: LayerSpec(ExpertChoice(), GLU, Capacity()), "ExpertChoice has a capacity of its own"),
    (lambda: LayerSpec(ExpertChoice(), Experts(4, 5, copies=1)), "copies, constants, zeros and singleton experts need a Router"),
    (lambda: LayerSpec(Router(), GLU, combine="mean"), "combine='mean' needs a shared expert"),
    (lambda: LayerSpec(Router(select="relu"), GLU, shared=(Shared(4, gate="router"),)), "needs a Router with select='topk'"),
    (lambda: Shared(4, n=2), "n=2 needs gate='router'"),
    (lambda: Norm(learned=False, offset=1.0), "offset=1.0 needs learned=True"),
    (lambda: Clamp(limit=0), "Clamp: limit=0 must be greater than 0"),
    (lambda: LayerSpec(Router(correction=True), GLU, Capacity(reroute=True)), "capacity.reroute needs a Router"),
    (lambda: Given("input_ids", k=2), "without a table one id is given per token, got k=2"),
])
def test_what_does_not_go_together_is_refused_by_name(make, message):
    with pytest.raises((ValueError, TypeError), match=message):
        make()


def test_missing_context_is_named():
    spec = SPECS["hash"]
    params, x, _, _ = prepared(spec)
    with pytest.raises(ValueError, match="this layer needs context 'input_ids'"):
        moespec.forward(spec, params, x)
