"""What a declaration remembers of the calls of its layer: never more than their shapes, and nothing that a check would have refused."""

import pickle

import numpy as np
import pytest

import moespec
from moespec.backend import NUMPY, NumpyBackend
from moespec.layer import _plan
from moespec.models import mixtral
from moespec.program import Impl


@pytest.fixture
def layer():
    spec = mixtral(4, 5)
    return spec, spec.init(6, rng=0), np.random.default_rng(1).standard_normal((3, 6))


@pytest.fixture
def built(monkeypatch):
    """Counts the programs that are made."""
    made, build = [], _plan.build
    monkeypatch.setattr(_plan, "build", lambda *a, **k: made.append(1) or build(*a, **k))
    return made


def test_calls_that_differ_in_numbers_share_a_program(layer, built):
    spec, params, x = layer
    for factor in (1.0, 2.0, np.nan):
        moespec.forward(spec, {n: w * 2 for n, w in params.items()}, factor * x)
    assert len(built) == 1


@pytest.mark.parametrize("change", [
    lambda x: {"x": x[:2]}, lambda x: {"x": x[None]}, lambda x: {"x": x.astype("float32")}, lambda x: {"training": True},
    lambda x: {"keep": ["logits"]}, lambda x: {"keep": "all"}, lambda x: {"context": {"indices": np.zeros((3, 2), int)}},
    lambda x: {"backend": NumpyBackend()}])
def test_calls_that_differ_otherwise_do_not(layer, built, change):
    spec, params, x = layer
    moespec.forward(spec, params, x)
    moespec.forward(spec, params, **{"x": x, **change(x)})
    assert len(built) == 2


def test_a_call_that_was_refused_is_refused_again_and_a_good_one_before_changes_nothing(layer):
    spec, params, x = layer
    moespec.forward(spec, params, x)
    wrong = {**params, "router.w": np.zeros((6, 3))}
    for _ in range(2):
        with pytest.raises(ValueError, match=r"router.w has shape \(6, 3\), wanted \(6, 4\)"):
            moespec.forward(spec, wrong, x)
        with pytest.raises(ValueError, match="nothing reads context 'mask'"):
            moespec.forward(spec, params, x, context={"mask": np.ones(3, bool)})
        with pytest.raises(ValueError, match="holds 4, outside -1 .. 3"):
            moespec.forward(spec, params, x, context={"indices": np.full((3, 2), 4)})


def test_a_value_of_none_in_the_context_is_not_given(layer):
    spec, params, x = layer
    y = moespec.forward(spec, params, x, context={"indices": None})[0].y
    np.testing.assert_array_equal(y, moespec.forward(spec, params, x)[0].y)


def test_a_backend_that_is_gone_lends_its_place_to_nobody(layer):
    """Ids of objects are used again; results of another backend would come back."""
    spec, params, x = layer
    for factor in range(1, 30):
        twice = NumpyBackend()
        ops = {**NUMPY.ops(), "dispatch.combine": Impl(lambda *a, f=factor: (f * NUMPY.ops()["dispatch.combine"].forward(*a)[0], None))}
        twice.ops = lambda ops=ops: ops
        y = moespec.forward(spec, params, x, backend=twice)[0].y
        np.testing.assert_allclose(y, factor * moespec.forward(spec, params, x)[0].y)
        del twice


def test_few_programs_are_kept(layer):
    spec, params, _ = layer
    for tokens in range(_plan.PLANS + 10):
        moespec.forward(spec, params, np.ones((tokens, 6)))
    assert 0 < len(spec.plans) <= _plan.PLANS


def test_a_declaration_travels_without_what_it_remembers(layer):
    spec, params, x = layer
    moespec.forward(spec, params, x)
    copy = pickle.loads(pickle.dumps(spec))
    assert copy == spec
    assert hash(copy) == hash(spec)
    assert not copy.plans
    assert "_hash" not in spec.__getstate__()
