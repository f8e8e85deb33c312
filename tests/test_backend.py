"""Choosing a backend, and composing on it without falling back to another."""

import sys
import types
from types import SimpleNamespace

import numpy as np
import pytest

from moespec import backend, program
from moespec.backend import NUMPY, NumpyBackend, get_backend, resolve, status
from moespec.op import Step
from moespec.program import Impl
from moespec.registry import OPS


class Partial(NumpyBackend):
    """Has two ops only."""

    name = "partial"

    def ops(self):
        return {n: i for n, i in super().ops().items() if n in ("gates.softmax", "gates.topk")}


@pytest.fixture
def plugin(monkeypatch):
    module = types.ModuleType("some_plugin")
    module.BACKEND = Partial()
    module.BROKEN = SimpleNamespace(name="broken", host=True, available=lambda: (False, "no device"), owns=lambda a: False)
    monkeypatch.setitem(sys.modules, "some_plugin", module)
    backend.load.cache_clear()
    return module


def test_default_is_numpy(monkeypatch):
    monkeypatch.delenv("MOESPEC_BACKEND", raising=False)
    assert get_backend() is NUMPY
    assert get_backend(like=np.zeros(1)) is NUMPY


def test_by_module_and_object(plugin):
    assert get_backend("some_plugin:BACKEND") is plugin.BACKEND


def test_environment_chooses_among_host_backends(plugin, monkeypatch):
    monkeypatch.setenv("MOESPEC_BACKEND", "some_plugin:BACKEND")
    assert get_backend(like=np.zeros(1)) is plugin.BACKEND


def test_unknown_and_unavailable_are_errors(plugin):
    with pytest.raises(ValueError, match="no backend is called 'nothing'; installed: cupy, numba, numba-cuda, numpy"):
        get_backend("nothing")
    with pytest.raises(ValueError, match="backend 'broken' cannot run here: no device"):
        get_backend("some_plugin:BROKEN")


def test_an_array_of_another_owner_is_not_copied():
    with pytest.raises(TypeError, match="backend 'numpy' does not work on builtins.list"):
        get_backend("numpy", like=[1.0])
    with pytest.raises(TypeError, match="no loaded backend owns builtins.list"):
        get_backend(like=[1.0])


def test_status_never_raises():
    assert status("numpy")[0]
    ready, reason = status("no_such_module:X")
    assert not ready
    assert "ModuleNotFoundError" in reason


def test_a_missing_op_is_an_error_that_names_it():
    with pytest.raises(NotImplementedError, match="backend 'partial' has no gates.linear"):
        resolve(Partial(), "gates.linear")


def test_a_composite_is_composed_from_the_same_backend_only():
    route = resolve(Partial(), "gates.route", {"k": 1})
    with pytest.raises(NotImplementedError, match="backend 'partial' has no gates.gather"):
        route.forward(np.zeros((2, 3)), k=1)


def test_every_reference_op_is_on_the_numpy_backend():
    table = NUMPY.ops()
    assert all(name in table or op.steps is not None for name, op in OPS.items())


def test_one_array_where_two_are_due_is_refused():
    """Never taken apart along its first axis, which may be as long as the list of outputs."""
    steps = (Step("gates.topk_softmax", "logits", "indices weights", {"k": 1}),)
    one = Impl(lambda *a, **k: (np.zeros((2, 2, 1)), None))
    with pytest.raises(ValueError, match="zip"):
        program.run(steps, {"logits": np.zeros((2, 3))}, lambda op, attrs: one)
