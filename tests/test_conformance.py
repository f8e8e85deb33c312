"""The checker is checked: what it must refuse, what it must admit, and that it never passes without having run."""

from dataclasses import replace

import ml_dtypes  # noqa: F401
import numpy as np
import pytest

from moespec import corpus
from moespec.backend import NUMPY
from moespec.conformance import compare, verify
from moespec.conformance.checks import check_case, check_gradient, check_invalid
from moespec.conformance.gradients import gradient_error
from moespec.conformance.inputs import cases_of
from moespec.conformance.mutants import Mutant, Mutated, killed_by
from moespec.conformance.report import Report, Result
from moespec.op import Case
from moespec.pairs import Pair, policy
from moespec.registry import OPS


def pair(v, e=1e-6):
    return Pair(np.asarray(v, float), e, "float32")


@pytest.mark.parametrize(("got", "passes"), [
    ([1.0, 2.0], True), ([1.0, 2.0 + 1e-6], True), ([1.0, 2.1], False), ([1.0, np.nan], False), ([1.0, np.inf], False),
])
def test_a_value_must_be_within_its_bound_and_nan_never_is(got, passes):
    with policy("float32"):
        wrong, _ = compare.real("y", np.asarray(got, "float32"), pair([1.0, 2.0]), "float32")
    assert (wrong is None) == passes


@pytest.mark.parametrize(("got", "want", "passes"), [
    (np.nan, np.nan, True), (0.0, np.nan, False), (np.inf, np.inf, True), (-np.inf, np.inf, False), (3e38, np.inf, False),
])
def test_what_is_not_finite_must_stand_at_the_same_place(got, want, passes):
    with policy("float32"):
        wrong, _ = compare.real("y", np.asarray([got], "float32"), pair([want]), "float32")
    assert (wrong is None) == passes


def test_shape_and_dtype_are_exact():
    with policy("float32"):
        assert "dtype float64" in str(compare.real("y", np.ones(1), pair([1.0]), "float32")[0])
        assert "shape (2,)" in str(compare.real("y", np.ones(2, "float32"), pair([1.0]), "float32")[0])


def test_exact_cases_leave_no_room():
    with policy("float32"):
        got = np.nextafter(np.float32([1.0]), np.float32(2))
        assert compare.real("y", got, pair([1.0]), "float32", exact=True)[0] is not None
        assert compare.real("y", got, pair([1.0]), "float32")[0] is None


def test_a_bound_that_says_nothing_is_counted():
    with policy("float32"):
        _, share = compare.real("y", np.ones(4, "float32"), pair(np.ones(4), [9.0, 0, 0, np.inf]), "float32")
    assert share == 0.5


def selection(values, errors, chosen):
    return compare.inadmissible([("select", Pair(np.array([values]), np.array([errors])), np.array([chosen]), len(chosen))])


@pytest.mark.parametrize(("chosen", "passes"), [
    ([0, 1], True), ([0, 2], True), ([1, 0], False), ([0, 3], False), ([0, 0], False), ([0, 4], False),
])
def test_a_choice_is_judged_by_margin(chosen, passes):
    wrong, _ = selection([3.0, 2.0, 1.9999, 0.0], [1e-3] * 4, chosen)
    assert (wrong is None) == passes


def test_without_error_ties_follow_the_normative_order():
    assert selection([1.0, 1.0], [0.0, 0.0], [0])[0] is None
    assert selection([1.0, 1.0], [0.0, 0.0], [1])[0] is not None


def test_a_wrong_gradient_is_seen_at_one_part_in_a_hundred_thousand():
    op = OPS["gates.softmax"]
    case = next(c for c in cases_of(op) if c.name.startswith("normal"))
    assert gradient_error(op, case) < 1e-8
    off = replace(op, backward=lambda s, d: op.backward(s, d) * (1 + 1e-5))
    assert gradient_error(off, case) > 1e-6
    assert check_gradient(off, case).status == "fail"


def test_no_differences_across_a_kink():
    op, case = OPS["experts.relu"], Case("k", {"x": np.zeros((2, 2))}, {}, frozenset({"kink"}))
    assert check_gradient(op, case) is None
    assert "kink" in corpus.NO_DIFFERENCES


def softmax_mutant(**parts):
    return Mutant("gates.softmax", "test", **parts)


def raising(*_, **__):
    raise ZeroDivisionError("no")


def writing(logits):
    logits[...] = 0
    return OPS["gates.softmax"].forward(logits)


def forgetful(calls=[0]):       # noqa: B006
    def forward(logits):
        calls[0] += 1
        y, saved = OPS["gates.softmax"].forward(logits)
        return np.nextafter(y, y.dtype.type(2)) if calls[0] % 2 else y, saved
    return forward


def one_buffer(shelf={}):       # noqa: B006
    """Every result of a shape is written into the same memory."""
    def forward(logits):
        y, saved = OPS["gates.softmax"].forward(logits)
        buffer = shelf.setdefault((y.shape, y.dtype), np.empty_like(y))
        buffer[...] = y
        return buffer, saved
    return forward


@pytest.mark.parametrize(("forward", "kind", "message"), [
    (one_buffer(), "kept", "a later call overwrote its result"),
    (raising, "forward", "raised ZeroDivisionError: no"),
    (writing, "forward", "read-only"),
    (forgetful(), "repeat", "other bits"),
])
def test_misbehaviour_is_reported_as_what_it_is(forward, kind, message):
    case = cases_of(OPS["gates.softmax"])[0]
    results = check_case(Mutated(softmax_mutant(forward=forward)), OPS["gates.softmax"], case, "float32")
    failed = [r for r in results if r.status == "fail"]
    assert [(r.kind, message in r.message) for r in failed] == [(kind, True)]


def test_a_missing_error_and_a_wrong_message_are_failures():
    case, error, pattern = OPS["gates.topk"].invalid[0]
    silent = Mutated(Mutant("gates.topk", "silent", forward=lambda scores, indices=None, *, k=None: (np.zeros((1, 1), int), None)))
    assert "raised nothing" in check_invalid(silent, OPS["gates.topk"], case, error, pattern).message
    assert check_invalid(NUMPY, OPS["gates.topk"], case, error, "another message").status == "fail"
    assert check_invalid(NUMPY, OPS["gates.topk"], case, TypeError, pattern).status == "fail"


def test_nothing_executed_is_not_ok():
    assert not Report("numpy", "").ok
    assert not Report("numpy", "", results=[Result("gates.topk", "forward", "float32", "x", "skip")]).ok


def test_an_op_that_a_backend_lacks_is_counted_as_not_run():
    class Lacking(type(NUMPY)):
        def ops(self):
            return {}
    report = verify(Lacking(), op="gates.topk", dtypes=["float32"], cases="dyadic*")
    assert {r.status for r in report.results} == {"skip"}
    assert not report.ok


def test_seed_changes_the_inputs_and_names_stay():
    a, b = (cases_of(OPS["gates.softmax"], seed) for seed in (0, 1))
    assert [c.name for c in a] == [c.name for c in b]
    assert not np.array_equal(a[0].inputs["logits"], b[0].inputs["logits"])


@pytest.mark.parametrize("name", OPS)
def test_every_op_is_whole(name):
    op, cases = OPS[name], cases_of(OPS[name])
    assert op.requirements
    assert op.invalid
    assert op.flops is not None
    assert op.refs
    assert op.forward.__doc__
    assert op.backward is None or op.backward.__doc__
    assert (op.backward is None) == (not op.cotangents or not op.grads)
    names = [c.name for c in cases]
    assert len(set(names)) == len(names)
    assert any("empty" in c.tags or 0 in [np.size(v) for v in c.inputs.values() if v is not None] for c in cases), "no empty case"


def test_requirement_ids_are_unique():
    ids = [r.id for op in OPS.values() for r in op.requirements]
    assert len(set(ids)) == len(ids)


def test_a_mutant_that_is_the_reference_survives():
    assert killed_by(Mutant("gates.softmax", "none")) is None
