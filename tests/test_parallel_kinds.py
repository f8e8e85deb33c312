"""What every op needs to see is declared; here the declaration is tried on the ops' own cases."""

import numpy as np
import pytest

from moespec.op import as_tuple
from moespec.parallel import _kinds as kinds
from moespec.registry import OPS

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")        # cases with infinities


def test_every_op_has_one_kind():
    tables = kinds.TOKENS, kinds.PLANS, kinds.EXPERTS, kinds.BATCH
    assert sum(map(len, tables)) == len(frozenset().union(*tables))
    assert frozenset().union(*tables) == set(OPS)


def letter(arg):
    return arg.shape.split()[0] if arg.shape else ""


def tokens_of(op):
    """Its letter for tokens, or for rows of any kind."""
    return "T" if any(letter(a) == "T" for a in op.inputs) else "N"


def cases(op):
    """Inputs of 2 to 64 tokens, with their attributes."""
    for case in op.cases(np.random.default_rng(0)):
        if op.name == "gates.l2_normalize" and case.attrs.get("axis") == 0:
            continue                                                      # columns: on parameters only
        inputs = [case.inputs.get(a.name) for a in op.inputs]
        n = next(len(a) for arg, a in zip(op.inputs, inputs, strict=True) if letter(arg) == tokens_of(op))
        if 1 < n <= 64:
            yield case, inputs, n


def run(op, inputs, attrs, cotangents=None):
    """Outputs, cotangents of the real ones (drawn unless given), gradients: each by name."""
    outputs, saved = op.forward(*inputs, **attrs)
    outputs = dict(zip((a.name for a in op.outputs), as_tuple(outputs), strict=True))
    if op.backward is None:
        return outputs, {}, {}
    rng = np.random.default_rng(1)
    cotangents = cotangents or {a.name: rng.standard_normal(outputs[a.name].shape) for a in op.cotangents}
    grads = as_tuple(op.backward(saved, *cotangents.values()))
    return outputs, cotangents, dict(zip((a.name for a in op.grads), grads, strict=True))


def parts(args, arrays, axis, part):
    """The arrays by name, those with an axis of tokens cut."""
    axes = {a.name: letter(a) for a in args}
    return {name: a[part] if a is not None and axes[name] == axis else a for name, a in arrays.items()}


def close(got, want, size=1.0):
    got, want = np.asarray(got, float), np.asarray(want, float)
    return (np.isclose(got, want, rtol=1e-9, atol=1e-9 * size, equal_nan=True) | ~np.isfinite(want)).all()


def largest(grads):
    return max([1.0, *(np.abs(np.nan_to_num(np.asarray(g, float), posinf=0, neginf=0)).max(initial=0) for g in grads.values() if g is not None)])


@pytest.mark.parametrize("name", sorted(kinds.TOKENS))
def test_a_part_of_the_tokens_gives_that_part_of_the_result(name):
    """Outputs and gradients by token are parts of those of the whole; gradients of everything else add up to it."""
    op, axis, tried = OPS[name], tokens_of(OPS[name]), 0
    for case, inputs, n in cases(op):
        outputs, cotangents, grads = run(op, inputs, case.attrs)
        size, total = largest(grads), {}
        for part in (slice(0, n // 3), slice(n // 3, n)):
            cut = parts(op.inputs, dict(zip((a.name for a in op.inputs), inputs, strict=True)), axis, part)
            found, _, pulled = run(op, list(cut.values()), case.attrs, parts(op.outputs, cotangents, axis, part))
            for key, want in parts(op.outputs, outputs, axis, part).items():
                assert close(found[key], want), f"{case.name}: {key}"
            for arg in op.grads if grads else ():
                if grads[arg.name] is not None and letter(arg) == axis:
                    assert close(pulled[arg.name], grads[arg.name][part], size), f"{case.name}: d{arg.name}"
                elif grads[arg.name] is not None:
                    total[arg.name] = total.get(arg.name, 0) + pulled[arg.name]
        for key, added in total.items():
            assert close(added, grads[key], size), f"{case.name}: sum of d{key}"
        tried += 1
    assert tried


@pytest.mark.parametrize("name", ["gates.batchwise", "gates.expert_choice", "gates.soft", "gates.assign", "gates.sinkhorn", "dispatch.drop",
                                  "dispatch.reroute"])
def test_the_whole_batch_is_needed(name):
    """There is a case in which a part of the tokens gives something else: to run it by parts would be wrong."""
    op = OPS[name]

    def differs(case, inputs, n):
        cut = parts(op.inputs, dict(zip((a.name for a in op.inputs), inputs, strict=True)), "T", slice(0, n // 2))
        try:
            found, _, _ = run(op, list(cut.values()), case.attrs)
        except ValueError:                                                # half the tokens are no batch of their own
            return True
        want = parts(op.outputs, run(op, inputs, case.attrs)[0], "T", slice(0, n // 2))
        return any(not close(found[key], want[key]) for key in want)

    assert any(differs(*case) for case in cases(op))
