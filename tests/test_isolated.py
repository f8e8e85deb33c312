"""Backends that crash, hang or cheat: reported as what they did, and the run goes on."""

import sys
from pathlib import Path

import pytest

from moespec.conformance import verify
from moespec.conformance.isolated import Isolated
from moespec.conformance.wire import Broken, receive

SHELF = str(Path(__file__).parent / "backends")


@pytest.fixture(autouse=True)
def _on_the_path(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", SHELF)


def run(name, seconds=2.0):
    with Isolated(f"misbehaving:{name}", seconds) as backend:
        return verify(backend, op="gates.softmax", dtypes=["float32"], cases="[nso]*")


@pytest.mark.parametrize("name", ["RIGHT", "PRINTS"])
def test_a_right_backend_passes(name):
    report = run(name)
    assert not [r for r in report.failures if r.kind != "invalid"]
    assert report.executed > 30


@pytest.mark.parametrize(("name", "message"), [
    ("SEGFAULTS", "its process was ended by SIGSEGV"),
    ("EXITS", "its process exited with status 3"),
    ("HANGS", "its process did not return within 10 s"),
    ("WRITES", "it wrote into its inputs: logits"),
    ("CHEATS", "CalledReference: the backend called the reference of gates.softmax"),
    ("CHEATS_BY_RECORD", "CalledReference: the backend called the reference of gates.softmax"),
])
def test_misbehaviour_is_one_failed_case_among_others_that_pass(name, message):
    report = run(name)
    failed = [r for r in report.failures if r.kind != "invalid"]
    assert [(r.case, message in r.message) for r in failed] == [("normal", True)]
    assert sum(r.status == "pass" and r.kind == "forward" for r in report.results) >= 5


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="fresh memory is poisoned by glibc's MALLOC_PERTURB_")
def test_memory_that_was_never_written_is_not_right_by_luck():
    with Isolated("misbehaving:LEAVES") as backend:
        report = verify(backend, op="gates.softmax", dtypes=["float32"], cases="minus_inf")
    first = next(r for r in report.failures if r.kind != "invalid")
    assert first.kind == "forward"
    assert "3.39" in first.message          # the poison, not whatever lay there: without it this kernel passes on a lucky day


def test_a_patched_numpy_is_refused():
    with pytest.raises(ValueError, match=r"replaces functions of NumPy when imported: numpy.allclose"):
        Isolated("patching:BACKEND")


def test_a_backend_that_cannot_be_imported_says_so():
    with pytest.raises(RuntimeError, match="backend 'no_such_module:X' could not be loaded: its process exited with status 1"):
        Isolated("no_such_module:X")


@pytest.mark.parametrize("data", [b"\xff" * 8, b"\5\0\0\0\0\0\0\0abcde", b"\2\0\0\0\0\0\0\0[]"])
def test_what_is_no_message_is_refused(data):
    stream = iter([data[:8], data[8:]])
    with pytest.raises(Broken):
        receive(lambda n: next(stream))


def test_arrays_of_objects_are_refused():
    import json
    import struct
    head = json.dumps({"arrays": [{"dtype": "object", "shape": [1]}]}).encode()
    stream = iter([struct.pack("<Q", len(head)), head])
    with pytest.raises(Broken, match="an array of dtype 'object'"):
        receive(lambda n: next(stream))


def test_the_reference_itself_may_run_isolated():
    with Isolated("numpy") as backend:
        assert verify(backend, op="gates.*", dtypes=["bfloat16"], cases="normal*").ok


def test_an_op_without_gradients_is_not_asked_for_any():
    with Isolated("numpy") as backend:
        assert backend.ops()["gates.sinkhorn"].backward is None
        assert backend.ops()["gates.softmax"].backward is not None
