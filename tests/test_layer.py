"""The layer: paper identities, gradients of x, every parameter and every loss, and the numeric contract end to end."""

import json
import tracemalloc

import ml_dtypes  # noqa: F401
import numpy as np
import pytest

import moespec
from moespec import models, program
from moespec.conformance import compare
from moespec.conformance.oracle import rounded_add, rounding
from moespec.layer import Capacity, Clamp, Experts, Hierarchical, LayerSpec, Loss, Router
from moespec.pairs import Pair, policy

D = 6
LEVEL = Router(k=1, over="selected")
SMALL = {
    "jacobs1991": models.jacobs1991(3, features=4),
    "cooperation": models.jacobs1991(3, features=4, loss="cooperation"),
    "specialisation": models.jacobs1991(3, features=4, loss="specialisation"),
    "shazeer2017": models.shazeer2017(6, 5, 2),
    "shazeer2017_hierarchical": models.shazeer2017_hierarchical(6, 5, groups=3, k=2),
    "shazeer2017_balanced": models.shazeer2017_balanced(4, 5, 2),
    "gshard2020": models.gshard2020(4, 5),
    "switch2021": models.switch2021(4, 5, dropout=0.4, z_coef=1e-3),
    "switch_rerouted": models.switch2021(4, 5, factor=0.75, reroute=True),
    "switch_per_row": LayerSpec(Router(k=1), Experts(4, 5, "ffn", "relu", bias=True), Capacity(1.0, scope="row", order="token")),
    "mixtral": models.mixtral(4, 5),
    "hierarchical_with_capacity": LayerSpec(Hierarchical(2, LEVEL, LEVEL), Experts(4, 5, bias=True, kind="ffn", activation="gelu"), Capacity(0.75)),
    "reweighed_after_drop": LayerSpec(Router(k=2, norm="sum"), Experts(4, 5), Capacity(0.75, order="score", reweigh="after")),
    "random_drop": LayerSpec(Router(k=2, norm="clamp", eps=1e-3, scale=2.5), Experts(4, 5, activation="gelu_tanh"),
                             Capacity(1.0, order="random"), (Loss("losses.z_loss", 0.1),)),
}


def context(spec, n, rng):
    return {"target": rng.standard_normal((n, 4))} if spec.experts.kind == "linear" else {}


def prepared(spec, seed=0, tokens=(2, 5)):
    rng = np.random.default_rng(seed)
    params = {k: v + 0.3 * rng.standard_normal(v.shape) for k, v in spec.init(D, rng=rng).items()}
    x = rng.standard_normal((*tokens, D))
    n = int(np.prod(tokens))
    return params, x, {"noise": spec.draw(n, D, rng=rng), "context": context(spec, n, rng), "training": True}, rng


@pytest.mark.parametrize("name", SMALL)
def test_gradients_of_x_every_parameter_and_every_loss(name):
    spec = SMALL[name]
    params, x, given, rng = prepared(spec)
    out, saved = moespec.forward(spec, params, x, **given)
    replay = {n: out.values[n] for n in ("indices", "group_indices") if out.values.get(n) is not None}
    given["context"] = {**given["context"], **replay}
    # by definition the loss of the thresholds reaches them alone: for everything else it is left out
    dy, dlosses = rng.standard_normal(out.y.shape), {n: rng.standard_normal() for n in out.losses if n != "batchwise_threshold"}

    def total(params, x):
        found, _ = moespec.forward(spec, params, x, **given)
        return (found.y * dy).sum() + sum(dlosses.get(n, 0.0) * v for n, v in found.losses.items())

    grads = moespec.backward(saved, dy, dlosses=dlosses)
    assert set(grads.params) == set(params)
    for key, value, grad in [("x", x, grads.x), *((k, params[k], grads.params[k]) for k in params)]:
        v = rng.standard_normal(value.shape)
        h = 1e-6
        up, down = (total(params, x + s * h * v) if key == "x" else total({**params, key: value + s * h * v}, x) for s in (1, -1))
        assert (grad * v).sum() == pytest.approx((up - down) / (2 * h), rel=1e-6, abs=1e-8), key
        assert grad.dtype == value.dtype


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("name", SMALL)
def test_output_and_gradients_are_within_the_propagated_bound(name, dtype):
    spec = SMALL[name]
    params, x, given, rng = prepared(spec)
    cast = lambda a: a.astype(dtype) if a.dtype.kind == "f" else a        # noqa: E731
    params, x = {k: cast(v) for k, v in params.items()}, cast(x)
    given["noise"], given["context"] = ({k: cast(v) for k, v in given[n].items()} for n in ("noise", "context"))
    out, saved = moespec.forward(spec, params, x, **given)
    grads = moespec.backward(saved, cast(rng.standard_normal(out.y.shape)))
    dy = cast(np.random.default_rng(9).standard_normal(out.y.shape))
    grads = moespec.backward(saved, dy)
    values = {n: lifted(v) for n, v in inputs_of(saved, out).items()}
    with policy(dtype), np.errstate(all="ignore"):
        trace = program.run(saved.trace.steps, values, rounding)
        cotangents = {"y": Pair(dy.reshape(-1, dy.shape[-1]), 0, dtype)}
        cotangents |= {f"loss.{n.name}": Pair(np.asarray(n.coef, np.float32), 0, "float32") for n in spec.losses}
        want = program.run_backward(trace, cotangents, rounding, rounded_add)
        checks = [("y", out.values["y"], trace.values["y"]), ("x", grads.x.reshape(-1, D), want["x"])]
        checks += [(k, g, want[k]) for k, g in grads.params.items() if k in want]
        for label, got, expected in checks:
            wrong, _ = compare.real(label, got, expected, dtype)
            assert wrong is None, str(wrong)


def test_the_loss_of_the_thresholds_teaches_them():
    spec = SMALL["shazeer2017_balanced"]
    params, x, given, _ = prepared(spec)
    out, saved = moespec.forward(spec, params, x, **given)
    above = (out.values["scores" if "scores" in out.values else "probs"] > params["router.thresholds"]).sum(0)
    grads = moespec.backward(saved, dlosses={"batchwise_threshold": 1.0})
    assert np.array_equal(grads.params["router.thresholds"], 2 * 10 // 4 - above)
    assert not grads.params["router.w"].any()


def lifted(v):
    return Pair(v, 0, v.dtype) if v is not None and v.dtype.kind not in "iub" else v


def inputs_of(saved, out):
    written = {n for s in saved.trace.steps for n in s.writes.split()}
    replayed = {n: out.values[n] for n in ("indices", "group_indices") if n in out.values}
    return {n: v for n, v in out.values.items() if n not in written} | replayed


def test_the_dense_mixture_is_the_gate_weighted_sum_of_linear_experts():
    spec = SMALL["jacobs1991"]
    params, x, given, _ = prepared(spec, tokens=(7,))
    y = moespec.forward(spec, params, x, **given)[0].y
    for t in range(7):
        e = np.exp(x[t] @ params["router.w"])
        p = e / e.sum()
        wanted = sum(p[i] * (x[t] @ params["experts.w"][i] + params["experts.b"][i]) for i in range(3))
        np.testing.assert_allclose(y[t], wanted, rtol=1e-12)


def test_convolutional_use_is_one_batch_over_all_time_steps():
    spec = SMALL["shazeer2017"]
    params, x, given, _ = prepared(spec)
    out, saved = moespec.forward(spec, params, x, **given)
    flat, flat_saved = moespec.forward(spec, params, x.reshape(-1, D), **given)
    assert np.array_equal(out.y.reshape(-1, D), flat.y)
    assert np.array_equal(moespec.backward(saved, out.y).x.reshape(-1, D), moespec.backward(flat_saved, flat.y).x)


def test_top1_softmax_over_the_selected_teaches_the_router_nothing_and_switch_does():
    lone = LayerSpec(Router(k=1, over="selected"), Experts(4, 5, "ffn", "relu"))
    for spec, learns in ((lone, False), (models.switch2021(4, 5, coef=0.0), True)):
        params, x, given, _ = prepared(spec)
        out, saved = moespec.forward(spec, params, x, **given)
        assert moespec.backward(saved, out.y).params["router.w"].any() == learns


def test_zero_initialised_noisy_gate_loads_evenly_on_average():
    spec = models.shazeer2017(8, 4, 2)
    params, x = spec.init(D, rng=0), np.random.default_rng(1).standard_normal((4000, D))
    out, _ = moespec.forward(spec, params, x, rng=2, training=True)
    load = np.bincount(out.routing.indices.ravel(), minlength=8)
    assert abs(load / (2 * 4000 / 8) - 1).max() < 0.1


def test_capacity_keeps_exactly_c_and_dropped_tokens_give_zero():
    spec = LayerSpec(Router(k=1), Experts(2, 5, "ffn", "relu"), Capacity(0.5, formula="ceil"))
    params = spec.init(D, rng=0)
    x = np.tile(np.random.default_rng(0).standard_normal(D), (8, 1))        # all to one expert, capacity 2
    out, saved = moespec.forward(spec, params, x)
    assert (out.routing.indices >= 0).sum() == 2
    assert out.y[:2].any(axis=1).all()
    assert not out.y[2:].any()
    assert not moespec.backward(saved, np.ones_like(out.y)).x[2:].any()


def test_no_token_left_behind_uses_the_room_that_is_left():
    base = {"factor": 1.0, "jitter": 0.0}
    dropped, kept = (models.switch2021(4, 5, reroute=r, **base) for r in (False, True))
    params, x = dropped.init(D, rng=0), np.random.default_rng(3).standard_normal((64, D))
    lost = (moespec.forward(dropped, params, x, training=True)[0].routing.indices < 0).sum()
    assert lost > 0
    assert (moespec.forward(kept, params, x, training=True)[0].routing.indices >= 0).all()


def test_permuting_the_experts_changes_nothing():
    spec, order = SMALL["mixtral"], np.array([2, 0, 3, 1])
    params, x, _, _ = prepared(spec)
    moved = {k: v[order] if k.startswith("experts") else v[:, order] for k, v in params.items()}
    np.testing.assert_allclose(moespec.forward(spec, moved, x)[0].y, moespec.forward(spec, params, x)[0].y, rtol=1e-12)


def test_counts_of_the_balance_loss_are_taken_before_drops():
    free, tight = (LayerSpec(Router(k=1), Experts(4, 5, "ffn", "relu"), Capacity(f), (Loss("losses.load_balance"),)) for f in (100.0, 0.25))
    params, x, _, _ = prepared(free)
    (a, _), (b, _) = (moespec.forward(s, params, x) for s in (free, tight))
    assert (b.routing.indices < 0).any()
    assert a.losses["load_balance"] == b.losses["load_balance"]


def test_losses_are_times_their_coefficient_once():
    one, ten = (models.switch2021(4, 5, coef=c, jitter=0.0) for c in (1.0, 10.0))
    params, x, _, _ = prepared(one)
    (a, saved_a), (b, saved_b) = (moespec.forward(s, params, x) for s in (one, ten))
    assert b.losses["load_balance"] == pytest.approx(10 * a.losses["load_balance"])
    grads = [moespec.backward(s).params["router.w"] for s in (saved_a, saved_b)]
    np.testing.assert_allclose(grads[1], 10 * grads[0], rtol=1e-12)


def test_selective_precision_keeps_the_router_in_float32():
    spec = models.switch2021(4, 5)
    params, x, _, _ = prepared(spec)
    out, _ = moespec.forward(spec, {k: v.astype("bfloat16") for k, v in params.items()}, x.astype("bfloat16"))
    assert out.values["logits"].dtype == np.float32
    assert out.y.dtype == out.values["rows"].dtype == np.dtype("bfloat16")


def test_reduced_initialisation_scale():
    spec = models.switch2021(4, 400, init_scale=0.1)
    w = spec.init(300, rng=0)["experts.w_in"]
    sd = np.sqrt(0.1 / 300)
    assert abs(w).max() <= 2 * sd
    assert w.std() == pytest.approx(0.8796 * sd, rel=0.01)        # of a normal distribution truncated at two sd


def test_evaluation_has_no_noise():
    spec = SMALL["switch2021"]
    params, x, _, _ = prepared(spec)
    a, b = (moespec.forward(spec, params, x, rng=r)[0].y for r in (1, 2))
    assert np.array_equal(a, b)


def test_same_rng_same_training_step():
    spec = SMALL["random_drop"]
    params, x, _, _ = prepared(spec)
    a, b, c = (moespec.forward(spec, params, x, rng=r, training=True)[0].y for r in (1, 1, 2))
    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)


@pytest.mark.parametrize("tokens", [(0,), (1,), (3, 0)])
@pytest.mark.parametrize("name", SMALL)
def test_few_or_no_tokens(name, tokens):
    spec = SMALL[name]
    params, x, given, _ = prepared(spec, tokens=tokens)
    out, saved = moespec.forward(spec, params, x, **given)
    grads = moespec.backward(saved, np.ones_like(out.y))
    assert out.y.shape[:-1] == tokens
    assert all(np.isfinite(g).all() for g in (grads.x, *grads.params.values()))


def test_memory_does_not_grow_with_experts_times_capacity():
    """O(T K (D + F)) beside the parameters: the same for 4 and for 64 experts; the one-hot form would hold T E C numbers."""
    peaks = {}
    for e in (4, 64):
        spec = models.mixtral(e, 32)
        params, x = spec.init(32, rng=0, dtype="float32"), np.random.default_rng(0).standard_normal((2048, 32)).astype("float32")
        moespec.forward(spec, params, x)                   # what is loaded once
        tracemalloc.start()
        out, saved = moespec.forward(spec, params, x)
        moespec.backward(saved, out.y)
        peaks[e] = tracemalloc.get_traced_memory()[1] - 2 * sum(p.nbytes for p in params.values())
        tracemalloc.stop()
    assert peaks[4] < 16 * 4 * 2048 * 2 * (32 + 32)
    assert peaks[64] - peaks[4] < 8 * 8 * 2048 * 64       # logits and probabilities [T, E], nothing with a C


def test_a_given_routing_is_replayed_and_the_router_still_learns():
    spec = SMALL["mixtral"]
    params, x, _, _ = prepared(spec)
    ids = np.tile([3, 1], (10, 1))
    out, saved = moespec.forward(spec, params, x, context={"indices": ids})
    assert np.array_equal(out.routing.indices, ids)
    assert moespec.backward(saved, out.y).params["router.w"].any()


def test_cotangents_of_named_values():
    spec = SMALL["mixtral"]
    params, x, _, _ = prepared(spec)
    out, saved = moespec.forward(spec, params, x)
    grads = moespec.backward(saved, dlogits=np.ones_like(out.values["logits"]))
    np.testing.assert_allclose(grads.params["router.w"], x.reshape(-1, D).sum(0)[:, None].repeat(4, 1), rtol=1e-12)
    for name in ("dnothing", "dindices"):
        with pytest.raises(ValueError, match=f"{name} is not d<value>"):
            moespec.backward(saved, **{name: np.ones(1)})


def test_cotangents_are_not_broadcast_and_losses_are_known():
    """One row for all tokens, or a loss that is misspelt, would give the gradients of something else."""
    spec = SMALL["mixtral"]
    params, x, _, _ = prepared(spec)
    out, saved = moespec.forward(spec, params, x)
    tokens, experts = out.values["logits"].shape
    with pytest.raises(ValueError, match=rf"backward: dy has shape \(1, {D}\), wanted \({tokens}, {D}\)"):
        moespec.backward(saved, np.ones((1, D)))
    with pytest.raises(ValueError, match=rf"backward: dlogits has shape \({experts},\), wanted \({tokens}, {experts}\)"):
        moespec.backward(saved, dlogits=np.ones(experts))
    with pytest.raises(ValueError, match="backward: dlosses has z_los; the losses are"):
        moespec.backward(saved, out.y, dlosses={"z_los": 1.0})


@pytest.mark.parametrize("name", SMALL)
def test_json_round_trip(name):
    spec = SMALL[name]
    assert LayerSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec


@pytest.mark.parametrize("name", SMALL)
def test_program_can_be_read_without_data(name):
    steps = SMALL[name].program(16, rows=2, training=True, context=("target",))
    assert steps[-1].writes == "y" or steps[-1].writes.startswith("loss.") or SMALL[name].losses
    assert "dispatch.combine" in [s.op for s in steps]


@pytest.mark.parametrize(("make", "message"), [
    (lambda: Router(k=0), "Router: k=0 must be at least 1"),
    (lambda: Router(score="hardmax"), "Router: score='hardmax' is not one of 'softmax'"),
    (lambda: Router(k=1, accept="gshard"), "decides on a second choice"),
    (lambda: Experts(4, 0), "Experts: width=0 must be at least 1"),
    (lambda: Experts(4, 5, "ffn", clamp=Clamp(7.0)), "clamp=Clamp.* needs kind='glu'"),
    (lambda: Experts(4, 5, activation="swish2"), "activation='swish2' is not one of"),
    (lambda: LayerSpec(Router(k=5), Experts(4, 5)), "LayerSpec: k=5 exceeds the 4 experts"),
    (lambda: LayerSpec(Router(k=2, select="all"), Experts(4, 5)), "takes all 4 experts, got k=2"),
    (lambda: LayerSpec(Hierarchical(3, LEVEL, LEVEL), Experts(4, 5)), "3 groups do not divide 4"),
    (lambda: Hierarchical(2, Router(k=1, over="selected", jitter=0.1), LEVEL), "jitter=0.1 is for a flat Router"),
    (lambda: Hierarchical(2, Router(k=1, over="selected", init="zeros"), LEVEL), "both levels share init and dtype"),
    (lambda: Capacity(order="luck"), "Capacity: order='luck' is not one of"),
    (lambda: LayerSpec(Router(), Experts(4, 5), losses=(Loss("losses.z_loss"), Loss("losses.z_loss"))), "two losses of one op"),
    (lambda: LayerSpec.from_dict({"router": {"kk": 1}, "experts": {"n": 4, "width": 5}}), "kk"),
])
def test_a_wrong_declaration_is_refused_by_name(make, message):
    with pytest.raises((ValueError, TypeError), match=message):
        make()


def test_wrong_parameters_are_refused_by_name():
    spec = SMALL["mixtral"]
    params, x, _, _ = prepared(spec)
    with pytest.raises(ValueError, match=r"missing parameters \['router.w'\], unknown \['router.v'\]"):
        moespec.forward(spec, {**{k: v for k, v in params.items() if k != "router.w"}, "router.v": x}, x)
    with pytest.raises(ValueError, match=r"router.w has shape \(5, 4\), wanted \(6, 4\)"):
        moespec.forward(spec, {**params, "router.w": np.zeros((5, 4))}, x)
    with pytest.raises(ValueError, match="nothing reads noise 'logit'; steps read none"):
        moespec.forward(spec, params, x, training=True, noise={"logit": np.zeros((len(x), 4))})
    with pytest.raises(ValueError, match="keep names 'logit', which no step reads or writes; known are .*logits"):
        moespec.forward(spec, params, x, keep=("logit", "y"))
    with pytest.raises(ValueError, match="nothing reads context 'masks'"):
        moespec.forward(spec, params, x, context={"masks": np.ones(10, bool)})
    with pytest.raises(ValueError, match="losses.mixture_nll reads 'target', which this layer does not have"):
        moespec.forward(SMALL["jacobs1991"], prepared(SMALL["jacobs1991"])[0], x)
