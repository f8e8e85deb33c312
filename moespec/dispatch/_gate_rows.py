"""Gate rows: every token times a number of its own, as the gate of a shared expert."""

from typing import NamedTuple

import numpy as np

from moespec.dispatch._tokens import beside, near
from moespec.numerics import widen
from moespec.op import Arg, Case, Op, Req


class Saved(NamedTuple):
    x: np.ndarray           # T D
    gate: np.ndarray        # T 1


def gate_rows(x, gate):
    r"""Multiply every token by its gate.

    .. math:: y_t = g_t \, x_t

    Parameters
    ----------
    x : (T, D) real
        The output of a shared expert, for one.  NaN and infinities follow IEEE arithmetic: a gate of 0 does not hide them.
    gate : (T, 1) real
        Such as :math:`\sigma(v \cdot x_t)`.

    Returns
    -------
    y : (T, D) real
        In the dtype of `x`.
    Saved
        The inputs.

    References
    ----------
    Yang et al. 2024 (Qwen2-MoE): the sigmoid gate of the shared expert.
    """
    OP.admit(x, gate)
    return (widen(gate) * widen(x)).astype(x.dtype), Saved(x, gate)


def gate_rows_backward(saved, dy):
    r"""The product rule: :math:`\bar x_t = g_t \bar y_t, \quad \bar g_t = \langle x_t, \bar y_t \rangle`."""
    d = widen(dy)
    dgate = (widen(saved.x) * d).sum(1, keepdims=True)
    return (widen(saved.gate) * d).astype(saved.x.dtype), dgate.astype(saved.gate.dtype)


# ---- what is checked -------------------------------------------------------------------------------------------------

def cases(rng):
    yield from beside(rng, "x", "gate", lambda t, d: (t, 1))
    yield Case("closed", {"x": np.ones((3, 2)), "gate": np.array([[0.0], [1.0], [-0.5]])}, {}, frozenset({"exact"}))
    yield Case("no_features", {"x": np.zeros((3, 0)), "gate": np.ones((3, 1))}, {}, frozenset({"empty"}))


INVALID = (
    (Case("other_tokens", {"x": np.zeros((4, 3)), "gate": np.zeros((3, 1))}), ValueError,
     r"^gate_rows: gate has shape \(3, 1\), but T must be 4 \(T=4, x has shape \(4, 3\)\)"),
    (Case("gate_per_feature", {"x": np.zeros((4, 3)), "gate": np.zeros((4, 3))}), ValueError,
     r"^gate_rows: gate has shape \(4, 3\), but 1 must be 1"),
    (Case("one_dimension", {"x": np.zeros((4, 3)), "gate": np.zeros(4)}), ValueError,
     r"^gate_rows: gate has shape \(4,\), wanted 2 dimensions \(T, 1\)"),
)


def _each_row(run):
    x, gate = np.asarray(run.inputs["x"], float), np.asarray(run.inputs["gate"], float)
    return [near(run, run.outputs.y[t], gate[t, 0] * x[t], np.abs(gate[t, 0] * x[t]), 2).all() for t in range(run.dims.T)]


def _inner(run):
    x, dy = np.asarray(run.inputs["x"], float), np.asarray(run.cotangents["y"], float)
    return near(run, run.grads["gate"][:, 0], np.einsum("td,td->t", x, dy), np.abs(x * dy).sum(1), run.dims.D + 2)


REQUIREMENTS = (
    Req("GATE_ROWS-1", "Row t is gate t times row t.", _each_row),
    Req("GATE_ROWS-2", "A gate of 1 changes nothing.",
        lambda r: np.array_equal(r.rerun(gate=np.ones((r.dims.T, 1))).y, r.inputs["x"], equal_nan=True)),
    Req("GATE_ROWS-3", "A gate's gradient is the inner product of its row and the cotangent.", _inner),
)

OP = Op(
    name="dispatch.gate_rows",
    inputs=(Arg("x", "T D"), Arg("gate", "T 1")),
    outputs=(Arg("y", "T D"),),
    forward=gate_rows,
    backward=gate_rows_backward,
    cases=cases,
    invalid=INVALID,
    requirements=REQUIREMENTS,
    flops=lambda T, D, **_: (T * D, 3 * T * D),
    refs=("Yang et al. 2024 (Qwen2-MoE)",),
)
