"""Every mutant dies."""

import ml_dtypes  # noqa: F401
import pytest

from moespec.conformance.mutants import MUTANTS, Mutant, fate, generic, killed_by
from moespec.registry import OPS

SAME_IN_BFLOAT16 = {"computed in bfloat16", "weights in bfloat16"}


@pytest.mark.parametrize("mutant", MUTANTS, ids=[f"{m.op}: {m.name}" for m in MUTANTS])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_known_bug_is_refused(mutant, dtype):
    if dtype == "bfloat16" and mutant.name in SAME_IN_BFLOAT16:
        assert killed_by(mutant, (dtype,)) is None          # it rounds to bfloat16 what is bfloat16 already
        return
    result = killed_by(mutant, (dtype,))
    assert result is not None
    assert not result.message.startswith("raised"), "a mutant that crashes proves nothing"


@pytest.mark.parametrize("name", OPS)
def test_every_generic_defect_is_refused(name):
    alive = [m.name for m in generic(OPS[name]) if killed_by(m) is None]
    assert not alive


def test_there_is_a_mutant_for_every_family():
    assert {m.op.split(".")[0] for m in MUTANTS} == {"gates", "dispatch", "experts", "losses"}


def test_a_fate_is_told_from_the_results():
    """The right kernel changes nothing; one that only rounds to bfloat16 does, but not in bfloat16."""
    rounds = next(m for m in MUTANTS if (m.op, m.name) == ("gates.linear", "computed in bfloat16"))
    assert fate(Mutant("gates.softmax", "none at all"), "float32") == "same"
    assert [fate(rounds, d) for d in ("float32", "bfloat16")] == ["killed", "same"]
