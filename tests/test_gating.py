"""The nonlinearity of gated experts by hand: what a limit lets through, what it holds, and what is refused."""

import numpy as np
import pytest

from moespec import experts
from moespec.registry import OPS

ONE = np.array([0, 1])


def one_row(g, u, **attrs):
    """(out, dg, du) of one expert and the row 1, so that its weights are the pre-activations; w_down and dy are 1."""
    w_gate, w_up = (np.array([[z]], float) for z in (g, u))
    out, saved = experts.glu(np.ones((1, 1)), ONE, w_gate, w_up, np.ones((1, len(g), 1)), **attrs)
    _, dg, du, *_ = experts.glu_backward(saved, np.ones((1, 1)))
    return out.item(), dg[0, 0].tolist(), du[0, 0].tolist()


def test_limits_before_the_activation_pass_the_gradient_at_equality():
    out, dg, du = one_row([2, 3, -5], [2, -2, 3], activation="identity", limit=2.0, up_offset=1.0)
    assert out == 2 * (2 + 1) + 2 * (-2 + 1) - 5 * (2 + 1)
    assert dg == [3, 0, 3]                       # the factor of up; 3 lies beyond the limit, -5 does not: no lower limit
    assert du == [2, 2, 0]                       # the factor of the gate; 2 and -2 lie on the limit


def test_limits_after_the_activation():
    out, dg, du = one_row([2, 3, -5], [1, 1, -4], activation="relu2", limit=4.0, limit_at="post")
    assert out == 4 * 1 + 4 * 1 + 0
    assert dg == [4 * 1, 0, 0]                   # relu2(2) = 4 lies on the limit, relu2(3) = 9 beyond it
    assert du == [4, 4, 0]


def test_alpha_makes_the_sigmoid_steeper_and_the_offset_shifts_up():
    out, dg, du = one_row([1.5], [0.25], alpha=1.702, up_offset=1.0, limit=7.0)
    s = 1 / (1 + np.exp(-1.702 * 1.5))
    assert out == pytest.approx(1.25 * 1.5 * s, rel=1e-14)
    assert dg == pytest.approx([1.25 * (s + 1.5 * 1.702 * s * (1 - s))], rel=1e-14)
    assert du == pytest.approx([1.5 * s], rel=1e-14)


def test_the_sigmoid_sees_the_gate_without_its_cap():
    out, _, du = one_row([6.0], [50.0], cap_gate=4.0, cap_up=25.0)
    s = 4 * np.tanh(1.5) / (1 + np.exp(-6.0))
    assert out == pytest.approx(s * 25 * np.tanh(2.0), rel=1e-14)
    assert du == pytest.approx([s / np.cosh(2.0) ** 2], rel=1e-12)


def test_biases_enter_before_the_activation_and_after_the_down_projection():
    inputs = np.array([[1.0], [1.0]]), ONE, np.full((1, 1, 1), 2.0), np.full((1, 1, 1), 3.0), np.ones((1, 1, 1))
    out, saved = experts.glu(*inputs, None, np.array([[-3.0]]), np.array([[1.0]]), np.array([[10.0]]), activation="identity")
    assert out.tolist() == [[(2 - 3) * (3 + 1) + 10], [0]]                   # the second row is dead
    *_, db_gate, db_up, db_down = experts.glu_backward(saved, np.ones((2, 1)))
    assert (db_gate.item(), db_up.item(), db_down.item()) == (4, -1, 1)


@pytest.mark.parametrize("name", ["experts.linear", "experts.ffn", "experts.glu", "experts.grouped_matmul", "experts.moe"])
def test_the_record_refuses_what_the_reference_refuses(name):
    op = OPS[name]
    for case, error, pattern in op.invalid:
        inputs = [None if case.inputs.get(a.name) is None else np.asarray(case.inputs[a.name]) for a in op.inputs]
        with pytest.raises(error, match=pattern):
            op.admit(*inputs, **case.attrs)
