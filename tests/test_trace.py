"""Routing traces: recorded, saved, replayed, compared."""

import json
import pickle
import sys

import numpy as np
import pytest
from test_layer_fields import SPECS, prepared

import moespec
from moespec.cli import main
from moespec.interop import trace
from moespec.layer import Capacity, Experts, Groups, LayerSpec, Router

GLU = Experts(4, 5)
PLAIN = LayerSpec(Router(k=2, norm="sum"), GLU)
DISCRETE = [name for name, spec in SPECS.items() if not name.startswith("soft")]


def run(spec, x, params=None, layer="0", **given):
    """The output of a layer and its trace."""
    params = params or {k: v.astype(x.dtype) if v.dtype.kind == "f" else v for k, v in spec.init(x.shape[-1], rng=0).items()}
    out, saved = moespec.forward(spec, params, x, **given)
    return out, trace.record(out, saved, layer=layer)


def tokens(n=12, d=6, seed=0, dtype="float64"):
    return np.random.default_rng(seed).standard_normal((n, d)).astype(dtype)


def same(a, b):
    """Equal in every field."""
    assert (a.layer, a.spec, a.version, a.dtype, a.capacity) == (b.layer, b.spec, b.version, b.dtype, b.capacity)
    pairs = [(getattr(a, n), getattr(b, n)) for n in ("indices", "weights", "dropped")]
    assert set(a.selections) == set(b.selections)
    for name, s in a.selections.items():
        assert s[:4] == b.selections[name][:4]
        pairs += zip(s[4:], b.selections[name][4:], strict=True)
    for x, y in pairs:
        assert x.dtype == y.dtype
        np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("name", DISCRETE)
def test_every_layer_is_recorded_saved_and_replayed(name, tmp_path):
    spec = SPECS[name]
    params, x, given, _ = prepared(spec)
    out, saved = moespec.forward(spec, params, x, **given)
    found = trace.record(out, saved)
    trace.save(tmp_path / "t.safetensors", [found])
    (back,) = trace.load(tmp_path / "t.safetensors")
    same(found, back)
    again, saved = moespec.forward(spec, params, x, **{**given, "context": {**given["context"], **trace.replay(back)}})
    np.testing.assert_array_equal(again.y, out.y)
    same(found, trace.record(again, saved))
    assert trace.diff([found], [back]) == []
    for s in found.selections.values():
        if s.by == "scores":
            assert (s.margin[np.isfinite(s.margin)] >= -1e-12).all()


def test_what_a_trace_holds():
    x = tokens()
    out, found = run(PLAIN, x)
    s, probs = found.selections["indices"], out.values["scores"]
    np.testing.assert_array_equal(s.ids, out.routing.indices)
    np.testing.assert_allclose(s.scores, np.take_along_axis(probs, s.ids, 1), rtol=1e-12)
    ranked = np.sort(probs, 1)[:, ::-1]
    np.testing.assert_allclose(s.margin, ranked[:, 1] - ranked[:, 2], rtol=1e-9)
    assert 0 < s.errors.max() < 1e-13
    assert (found.version, found.dtype, found.capacity, found.dropped.any()) == (moespec.__version__, "float64", None, False)
    assert (s.op, s.by, s.on, len(s.digest)) == ("gates.topk", "scores", "logits", 64)
    assert run(PLAIN, x + 1e-15)[1].selections["indices"].digest != s.digest
    params, x, given, _ = prepared(SPECS["pools"])
    both = trace.record(*moespec.forward(SPECS["pools"], params, x, **given)).selections
    assert {n: s.on for n, s in both.items()} == {"indices": "logits", "pool.indices": "pool.logits"}


@pytest.mark.parametrize("shape", [(3, 1), (1, 1), (2, 2, 1), (0,), (0, 1)])
def test_one_choice_of_a_batch_of_single_tokens_is_replayed(shape):
    spec = LayerSpec(Router(k=1), GLU)
    x = np.random.default_rng(0).standard_normal((*shape, 6))
    out, found = run(spec, x)
    again, _ = run(spec, x, context=trace.replay(found))
    np.testing.assert_array_equal(again.y, out.y)


def test_capacity_and_missing_experts_are_recorded():
    spec = LayerSpec(Router(k=2, norm="sum"), GLU, Capacity(fixed=3, order="token"))
    _, found = run(spec, tokens())
    assert found.capacity == 3
    assert (np.bincount(found.indices[found.indices >= 0]) <= 3).all()
    np.testing.assert_array_equal(found.dropped, (found.indices < 0))
    np.testing.assert_array_equal(np.where(found.dropped, -1, found.selections["indices"].ids), found.indices)


def test_a_soft_layer_has_no_decision():
    spec = SPECS["soft"]
    params, x, given, _ = prepared(spec)
    with pytest.raises(TypeError, match="^record: a soft layer sends every token everywhere"):
        trace.record(*moespec.forward(spec, params, x, **given))


@pytest.mark.parametrize("backend", ["numpy", "moespec_numba:BACKEND"])
def test_the_router_still_learns_under_replay(backend):
    """Ids that the live router would not choose: weights are the live scores at these ids, and the gradient is theirs."""
    _, old = run(PLAIN, tokens(seed=1))
    x, params = tokens(), PLAIN.init(6, rng=3)
    given = {"context": trace.replay(old, backend=backend), "backend": backend}
    out, saved = moespec.forward(PLAIN, params, x, **given, keep="all")
    ids = old.selections["indices"].ids
    np.testing.assert_array_equal(out.routing.indices, ids)
    free, _ = moespec.forward(PLAIN, params, x)
    assert (free.routing.indices != ids).any(1).mean() > 0.5
    probs = np.exp(x @ params["router.w"])
    chosen = np.take_along_axis(probs, ids, 1)
    np.testing.assert_allclose(out.routing.weights, chosen / chosen.sum(1, keepdims=True), rtol=1e-6)
    grads, rng = moespec.backward(saved, np.ones_like(out.y)), np.random.default_rng(0)
    v = rng.standard_normal(params["router.w"].shape)
    up, down = (moespec.forward(PLAIN, {**params, "router.w": params["router.w"] + h * v}, x, **given)[0].y.sum() for h in (1e-6, -1e-6))
    assert (grads.params["router.w"] * v).sum() == pytest.approx((up - down) / 2e-6, rel=1e-6)
    assert abs(grads.params["router.w"]).max() > 1e-3


# ---- comparison ------------------------------------------------------------------------------------------------------

LOGITS = np.array([[3.0, 2.0, 1.0, 0.0], [3.0, 2.0, 2.0 - 1e-8, 0.0], [3.0, 3.0 - 1e-8, 1.0, 0.0], [3.0, 2.0, 1.0, 0.0]])


def routed(ids=None, spec=PLAIN, **given):
    """Four tokens with the logits above, in float32."""
    params = {k: v.astype("float32") for k, v in spec.init(4, rng=0).items()} | {"router.w": LOGITS.astype("float32")}
    return run(spec, np.eye(4, dtype="float32"), params, context={} if ids is None else {"indices": np.array(ids)}, **given)[1]


def test_sets_orders_and_margins():
    free = routed()
    other = routed([[0, 2], [0, 2], [1, 0], [1, 0]])
    for first, second in ((free, other), (other, free)):
        found = trace.diff([first], [second])
        assert [(d.token, d.choice, d.kind, d.inside) for d in found] == [
            (0, 1, "set", False), (1, 1, "set", True), (2, 0, "order", True), (3, 0, "order", False)]
    assert str(trace.diff([free], [other])[0]) == "layer 0, token 0, indices[1]: [0, 1] | [0, 2], set differs, OUTSIDE the margin"
    assert trace.diff([free], [routed([[0, 1]] * 4)]) == []


def test_a_token_without_an_expert_is_a_difference():
    (found,) = trace.diff([routed()], [routed([[0, 1], [0, 1], [0, 1], [0, -1]])])
    assert (found.token, found.choice, found.kind, found.second, found.inside) == (3, 1, "set", (0, -1), False)


def test_drops_are_compared_where_the_choice_is_the_same():
    spec = LayerSpec(Router(k=2, norm="sum"), GLU, Capacity(fixed=2, order="random"))
    first, second = (routed(spec=spec, training=True, noise={"order": o}) for o in (np.arange(4.0), -np.arange(4.0)))
    found = trace.diff([first], [second])
    assert found
    assert {(d.kind, d.inside) for d in found} == {("capacity", None)}


def test_a_choice_of_groups_within_its_error_explains_all():
    spec = LayerSpec(Router(k=2, score="sigmoid", groups=Groups(2, 1), norm="sum"), GLU)
    w = np.array([[1.0, 0.5, 1.0, 0.5], [2.0, 2.0, 0.0, 0.0], [0.0] * 4, [0.0] * 4], "float32")
    params = {k: v.astype("float32") for k, v in spec.init(4, rng=0).items()} | {"router.w": w}
    x = np.eye(4, dtype="float32")
    free = run(spec, x, params)[1]
    other = run(spec, x, params, context={"indices": np.array([[2, 3], [2, 3], [0, 1], [0, 1]])})[1]
    assert [(d.token, d.kind, d.inside) for d in trace.diff([free], [other])] == [(0, "set", True), (1, "set", False)]


def test_decisions_and_balanced_choices():
    spec = LayerSpec(Router(k=3, select="top_p", p=0.6), GLU)
    free = run(spec, tokens())[1]
    assert free.selections["indices"].by in ("scores", "decisions")
    base = SPECS["assign"]
    params, x, given, _ = prepared(base)
    out, saved = moespec.forward(base, params, x, **given)
    swapped = trace.replay(trace.record(out, saved))["indices"][::-1].copy()
    again = moespec.forward(base, params, x, **{**given, "context": {"indices": swapped}})
    found = trace.diff([trace.record(out, saved)], [trace.record(*again)])
    assert found
    assert {d.inside for d in found} == {None}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_what_rounding_does_is_inside_the_margin(dtype):
    """Experts that differ by the order of summation alone: every difference between dtypes is inside, another order of others is not."""
    import ml_dtypes
    narrow, spec, rng = np.dtype(getattr(ml_dtypes, dtype, dtype)), LayerSpec(Router(k=3, norm="sum"), Experts(16, 4)), np.random.default_rng(0)
    half, w = rng.standard_normal((2000, 8)), rng.standard_normal((16, 8))
    params = spec.init(16, rng=0) | {"router.w": np.concatenate([w, np.roll(w, 8, 0)], 1)}
    x, params = np.concatenate([half, half], 1).astype(narrow), {k: v.astype(narrow) for k, v in params.items()}
    low = run(spec, x, params)[1]
    high = run(spec, x.astype("float64"), {k: v.astype("float64") for k, v in params.items()})[1]
    found = trace.diff([low], [high])
    assert len(found) > 20                                                  # how many depends on the order in which a BLAS adds
    assert {d.kind for d in found} == {"set", "order"}
    assert all(d.inside for d in found)
    ids = low.selections["indices"].ids
    assert (np.abs(ids[:, 0] - ids[:, 1]) == 8).all()                       # twins
    turned = run(spec, x, params, context={"indices": ids[:, [2, 1, 0]]})[1]
    assert not any(d.inside for d in trace.diff([low], [turned]))


def test_other_runs_cannot_be_compared():
    a, b = run(PLAIN, tokens(), layer="a")[1], run(PLAIN, tokens(), layer="b")[1]
    with pytest.raises(ValueError, match=r"^diff: layers \['a', 'b'\] are in one of the traces only"):
        trace.diff([a], [b])
    with pytest.raises(ValueError, match="^diff: layer 'a' has other routers in the two traces"):
        trace.diff([a], [run(LayerSpec(Router(k=2), GLU), tokens(), layer="a")[1]])
    with pytest.raises(ValueError, match=r"^diff: layer 'a' has indices of shape \(12, 2\) in one trace and \(3, 2\) in the other"):
        trace.diff([a], [run(PLAIN, tokens(3), layer="a")[1]])


# ---- files -----------------------------------------------------------------------------------------------------------

def test_several_layers_in_one_file(tmp_path):
    made = [run(PLAIN, tokens(dtype="float32"), layer="layers.0")[1], run(SPECS["groups"], tokens(), layer="layers.1")[1]]
    trace.save(tmp_path / "t.safetensors", made)
    for a, b in zip(made, trace.load(tmp_path / "t.safetensors"), strict=True):
        same(a, b)
    with pytest.raises(ValueError, match=r"^save: two traces of one layer: \['layers.0'\]"):
        trace.save(tmp_path / "u.safetensors", [made[0], made[0]])
    trace.save(tmp_path / "none.safetensors", [])
    assert trace.load(tmp_path / "none.safetensors") == []


def rewritten(tmp_path, change):
    """A good file with its header and arrays changed."""
    from safetensors.numpy import load_file, save_file
    path = tmp_path / "t.safetensors"
    trace.save(path, [run(PLAIN, tokens())[1]])
    arrays = load_file(path)
    from safetensors import safe_open
    with safe_open(path, framework="numpy") as file:
        header = json.loads(file.metadata()["moespec"])
    change(header, arrays)
    save_file(arrays, path, {"moespec": json.dumps(header)})
    return path


BROKEN = {
    "other_format": (lambda h, a: h.update(format="moespec.trace/9"), "is not of format moespec.trace/1"),
    "unknown_field": (lambda h, a: h.update(extra=1), r"the metadata lacks \[\], and has unknown \['extra'\]"),
    "unknown_field_of_a_layer": (lambda h, a: h["layers"][0].update(extra=1), r"a layer lacks \[\], and has unknown \['extra'\]"),
    "missing_field": (lambda h, a: h["layers"][0].pop("dtype"), r"a layer lacks \['dtype'\]"),
    "missing_digest": (lambda h, a: h["layers"][0]["selections"]["indices"].pop("digest"), r"selection 'indices' lacks \['digest'\]"),
    "layers_no_list": (lambda h, a: h.update(layers=3), "layers is not a list"),
    "layer_no_mapping": (lambda h, a: h.update(layers=[3]), "a layer lacks"),
    "selections_no_mapping": (lambda h, a: h["layers"][0].update(selections=[1]), "selections is no mapping"),
    "name_no_text": (lambda h, a: h["layers"][0].update(layer=3), "layer, version and dtype are texts"),
    "bad_spec": (lambda h, a: h["layers"][0]["spec"]["router"].update(k=99), "spec is no declaration of this version of moespec: .*99"),
    "spec_of_other_version": (lambda h, a: h["layers"][0]["spec"].update(extra=1), "spec is no declaration of this version of moespec"),
    "missing_array": (lambda h, a: a.pop("0/weights"), r"the arrays lacks \['weights'\]"),
    "unknown_array": (lambda h, a: a.update({"0/more": a["0/weights"]}), r"the arrays lacks \[\], and has unknown \['more'\]"),
    "array_of_no_layer": (lambda h, a: a.update({"7/weights": a["0/weights"]}), "array '7/weights' belongs to none of the 1 layers"),
    "no_layer_number": (lambda h, a: a.update({"weights": a["0/weights"]}), "array 'weights' belongs to none"),
    "other_tokens": (lambda h, a: a.update({"0/weights": a["0/weights"][:3].copy()}), r"weights is float64\[3, 2\], wanted float32 or float64"),
    "other_choices": (lambda h, a: a.update({"0/weights": a["0/weights"][:, :1].copy()}), r"weights is float64\[12, 1\], wanted float32 or float64"),
    "other_dtype": (lambda h, a: a.update({"0/indices": a["0/indices"].astype("int32")}), r"indices is int32\[12, 2\], wanted int64"),
    "flat": (lambda h, a: a.update({"0/indices": a["0/indices"].ravel()}), r"indices is int64\[24\], wanted int64 with 2 dimensions"),
    "scalar": (lambda h, a: a.update({"0/indices": np.array(3)}), r"indices is int64\[\], wanted int64"),
    "wild_id": (lambda h, a: a.update({"0/indices/ids": a["0/indices/ids"] - 9}), "indices/ids holds -9, wanted at least -1"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_files_that_do_not_fit_are_refused(name, tmp_path):
    change, pattern = BROKEN[name]
    with pytest.raises(ValueError, match=f"^load: .*{pattern}"):
        trace.load(rewritten(tmp_path, change))


def test_damaged_and_foreign_files_are_refused(tmp_path):
    path = tmp_path / "t.safetensors"
    trace.save(path, [run(PLAIN, tokens())[1]])
    whole = path.read_bytes()
    for size in (0, 7, 8, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(ValueError, match="^load: .* cannot be read"):
            trace.load(path)
    path.write_bytes(pickle.dumps({"indices": 1}))
    with pytest.raises(ValueError, match="^load: .* cannot be read"):
        trace.load(path)
    from safetensors.numpy import save_file
    for metadata in (None, {"moespec": "{"}, {"moespec": "["  * 100_000}, {"format": "pt"}):
        save_file({"0/indices": np.zeros((2, 2), np.int64)}, path, metadata)
        with pytest.raises(ValueError, match="has no metadata of a routing trace"):
            trace.load(path)
    with pytest.raises(ValueError, match=r"^load: .*absent is no file"):
        trace.load(tmp_path / "absent")


def test_without_safetensors_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    with pytest.raises(ImportError, match=r"pip install 'moespec\[vectors\]'"):
        trace.load(tmp_path / "t")
    with pytest.raises(ImportError, match=r"pip install 'moespec\[vectors\]'"):
        trace.save(tmp_path / "t", [])


def test_command_line(tmp_path, capsys):
    a, b = str(tmp_path / "a.safetensors"), str(tmp_path / "b.safetensors")
    trace.save(a, [routed()])
    trace.save(b, [routed([[0, 2], [0, 2], [1, 0], [1, 0]])])
    assert main(["trace", "diff", a, a]) == 0
    assert "0 of 4 tokens in 1 layers differ" in capsys.readouterr().out
    assert main(["trace", "diff", a, b, "--show", "1"]) == 1
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith("layer 0, token 0, indices[1]: [0, 1] | [0, 2], set differs, OUTSIDE")
    assert out[1:] == ["... and 3 more", "4 of 4 tokens in 1 layers differ (2 set, 2 order, 0 capacity); 2 outside the margin, 0 not judged"]
    assert main(["trace", "diff", a, str(tmp_path / "c")]) == 2
    assert "c is no file" in capsys.readouterr().err
