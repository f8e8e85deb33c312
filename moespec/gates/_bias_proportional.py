"""Balancing without a loss, in proportion to the imbalance, beside experts that cost nothing (LongCat-Flash 2025)."""

import numpy as np

from moespec.gates._bias_sign import count_errors, loads, require_counts, step
from moespec.numerics import widen
from moespec.op import Arg, Case, Op, Req


def bias_proportional(bias, counts, *, rate, k, expected=None, ffn_experts=None):
    r"""Move the bias of an expert by how far its share of the assignments is from its target.

    .. math:: b_i \leftarrow b_i + \mu \Big( \frac{K_e}{K N} - \frac{n_i}{\sum_j n_j} \Big) \; (i < N), \qquad b_i \leftarrow b_i \; (i \ge N)

    The first N experts are real, the others (identity, zero) cost nothing and keep their bias.  Of the K experts of a token K_e
    are meant to be real ones on average: this is what controls the cost.  Shares are of all assignments, those to the other experts
    included.  With no assignments nothing changes.

    Parameters
    ----------
    bias : (E,) real
    counts : (E,) integer
        See `bias_sign`.
    rate : float
        mu.
    k : int
        K, experts per token.
    expected : float, optional
        K_e, real experts per token; K by default.
    ffn_experts : int, optional
        N; all E by default.

    Returns
    -------
    updated : (E,) real
        In the dtype of `bias`.
    None

    Raises
    ------
    ValueError
        A negative count; k below 1; expected outside 0 .. k; ffn_experts outside 1 .. E.

    References
    ----------
    LongCat team 2025 (LongCat-Flash), section 2.1.
    """
    dims = OP.admit(bias, counts, rate=rate, k=k, expected=expected, ffn_experts=ffn_experts)
    wide, real = widen(bias), dims.E if ffn_experts is None else ffn_experts
    total = int(counts.sum())
    target = (k if expected is None else expected) / (k * real)
    delta = np.where((np.arange(dims.E) < real) & (total > 0), target - counts / max(total, 1), 0.0)
    return (wide + rate * delta).astype(bias.dtype), None


def _check(dims, bias, counts, *, rate, k, expected=None, ffn_experts=None):
    shape = f"(counts has shape {counts.shape})"
    if k < 1:
        raise ValueError(f"bias_proportional: k={k} must be at least 1 {shape}")
    if expected is not None and not 0 <= expected <= k:
        raise ValueError(f"bias_proportional: expected={expected} must be in 0 .. k={k} {shape}")
    if ffn_experts is not None and not 1 <= ffn_experts <= dims.E:
        raise ValueError(f"bias_proportional: ffn_experts={ffn_experts} must be in 1 .. {dims.E} {shape}")
    require_counts("bias_proportional")(dims, bias, counts)


# ---- what is checked -------------------------------------------------------------------------------------------------

def cases(rng):
    yield from loads(rng, rate=0.5, k=2)
    inputs = {"bias": np.array([0.5, -0.25, 0.0, 1.0, 0.0, 0.25]), "counts": np.array([4, 8, 0, 4, 10, 6])}
    yield Case("identity_experts", inputs, {"rate": 0.25, "k": 4, "expected": 2, "ffn_experts": 4})
    yield Case("on_target", {**inputs, "counts": np.array([4, 4, 4, 4, 9, 7])}, {"rate": 0.25, "k": 4, "expected": 2, "ffn_experts": 4})
    yield Case("fractional_target", inputs, {"rate": 1e-3, "k": 4, "expected": 2.5, "ffn_experts": 4})
    yield Case("all_real", inputs, {"rate": 0.25, "k": 2, "ffn_experts": 6})


INVALID = (
    *count_errors("bias_proportional", rate=0.5, k=1),
    (Case("k_zero", {"bias": np.zeros(2), "counts": np.ones(2, int)}, {"rate": 0.5, "k": 0}), ValueError,
     r"^bias_proportional: k=0 must be at least 1 \(counts has shape \(2,\)\)"),
    (Case("expected_above_k", {"bias": np.zeros(2), "counts": np.ones(2, int)}, {"rate": 0.5, "k": 2, "expected": 3}), ValueError,
     r"^bias_proportional: expected=3 must be in 0 \.\. k=2"),
    (Case("ffn_above_all", {"bias": np.zeros(2), "counts": np.ones(2, int)}, {"rate": 0.5, "k": 2, "ffn_experts": 3}), ValueError,
     r"^bias_proportional: ffn_experts=3 must be in 1 \.\. 2"),
)


def _by_hand(run):
    """Targets and shares as fractions of 32 assignments: 4 are wanted of every real expert."""
    moves = {"identity_experts": [0, -4 / 128, 4 / 128, 0, 0, 0], "on_target": [0] * 6}
    if run.case.name not in moves:
        return None
    return np.abs(step(run) - moves[run.case.name]) <= 4 * (run.unit + 2.0**-24)


def _keeps_the_sum(run):
    """Without free experts the shares and the targets both sum to 1."""
    if run.attrs.get("expected") is not None or run.attrs.get("ffn_experts", run.dims.E) != run.dims.E:
        return None
    b = np.asarray(run.inputs["bias"], float)
    return np.isnan(b).any() or abs(step(run).sum()) <= 4 * run.dims.E * (run.unit + 2.0**-24) * (np.abs(b).max() + 1)


REQUIREMENTS = (
    Req("BIAS_PROPORTIONAL-1", "By hand: 32 assignments, 4 wanted of each of 4 real experts.", _by_hand),
    Req("BIAS_PROPORTIONAL-2", "Experts that cost nothing keep their bias.",
        lambda r: (r.outputs.updated == r.inputs["bias"])[r.attrs.get("ffn_experts") or r.dims.E:]),
    Req("BIAS_PROPORTIONAL-3", "Where all experts are real the biases keep their sum.", _keeps_the_sum),
)

OP = Op(
    name="gates.bias_proportional",
    inputs=(Arg("bias", "E", grad=False), Arg("counts", "E", "count")),
    outputs=(Arg("updated", "E"),),
    forward=bias_proportional,
    cases=cases,
    invalid=INVALID,
    requirements=REQUIREMENTS,
    check=_check,
    flops=lambda E, **_: (5 * E, 0),
    refs=("LongCat team 2025, section 2.1",),
)
