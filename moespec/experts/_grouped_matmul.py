"""The grouped (ragged) matrix product: every row times the matrix of its expert."""

from typing import NamedTuple

import numpy as np

from moespec import corpus, numerics
from moespec.experts import _dense as dense
from moespec.experts._groups import LAYOUTS, groups, layout, nn, nt, offset_errors, require_offsets, tn
from moespec.op import Arg, Case, Op, Req


class Saved(NamedTuple):
    rows: np.ndarray        # N D
    w: np.ndarray           # E D F
    groups: list            # the slice of rows of every expert


def grouped_matmul(rows, w, offsets):
    r"""Multiply the rows of every expert by that expert's matrix.

    .. math:: y_n = x_n W_e, \qquad o_e \le n < o_{e+1}

    Rows from ``offsets[E]`` on are dead: whatever they hold (NaN included), their result and their gradient are 0.

    Parameters
    ----------
    rows : (N, D) real
        Sorted by expert.  A NaN spreads over its own row only.
    w : (E, D, F) real
    offsets : (E + 1,) integer
        Ascending from 0, the last at most N; expert e owns rows ``offsets[e] : offsets[e + 1]``, possibly none.

    Returns
    -------
    out : (N, F) real
        In the dtype of `rows`, accumulated in float32 at least.
    Saved
        The inputs.

    Raises
    ------
    ValueError
        `offsets` does not start at 0, descends, or exceeds N.

    References
    ----------
    Gale et al. 2022 (MegaBlocks): dropless experts as one block-diagonal product.
    """
    OP.admit(rows, w, offsets)
    own = groups(offsets)
    out = nn(numerics.widen(rows), numerics.widen(w), own)
    return out.astype(rows.dtype, copy=False), Saved(rows, w, own)


def grouped_matmul_backward(saved, dout):
    r"""The two other products, per expert; an expert without rows gets exactly 0.

    .. math:: \bar x_n = \bar y_n W_e^T, \qquad \bar W_e = \sum_{o_e \le n < o_{e+1}} x_n^T \bar y_n
    """
    rows, w, own = saved
    x, weights, dy = map(numerics.widen, (rows, w, dout))
    return nt(dy, weights, own).astype(rows.dtype, copy=False), tn(x, dy, own).astype(w.dtype, copy=False)


def _check(dims, rows, w, offsets):
    require_offsets("grouped_matmul", offsets, rows)


# ---- what is checked -------------------------------------------------------------------------------------------------

def cases(rng):
    for name, sizes, dead, tags in LAYOUTS:
        offsets, n = layout(sizes, dead)
        inputs = {"rows": corpus.normal(rng, n, 4), "w": corpus.normal(rng, len(sizes), 4, 3), "offsets": offsets}
        yield Case(name, inputs, {}, tags)
        yield Case(f"{name}_integers", {"rows": corpus.integers(rng, n, 4), "w": corpus.integers(rng, len(sizes), 4, 3),
                                        "offsets": offsets}, {}, tags | {"exact"})
    offsets, n = layout((17, 0, 33, 64), 2)
    yield Case("odd_sizes", {"rows": corpus.normal(rng, n, 19), "w": corpus.normal(rng, 4, 19, 21), "offsets": offsets})
    spoilt = corpus.normal(rng, 6, 4)
    spoilt[1, 2] = np.nan
    w, nan = corpus.normal(rng, 2, 4, 3), frozenset({"nan"})
    yield Case("nan_row", {"rows": spoilt, "w": w, "offsets": layout((3, 3))[0]}, {}, nan)
    stale = corpus.normal(rng, 6, 4)
    stale[4:] = np.nan
    yield Case("nan_dead_rows", {"rows": stale, "w": w, "offsets": layout((1, 3))[0]}, {}, nan)
    yield from _exact_sums(rng)


def _exact_sums(rng):
    """Sums that a narrow accumulator, a narrow operand or a lost term gets wrong."""
    def case(name, rows, w, sizes):
        return Case(name, {"rows": rows, "w": w, "offsets": layout(sizes)[0]}, {}, frozenset({"exact"}))

    rows, w = corpus.integers(rng, 6, 18), corpus.integers(rng, 3, 18, 5)
    rows[:, 0], rows[:, -1], w[:, 0], w[:, -1] = 64, 64, 64, -64               # +64*64 first, -64*64 last
    yield case("ballast_features", rows, w, (2, 1, 3))
    rows = corpus.integers(rng, 40, 4)
    rows[[0, 16]], rows[[15, 39]] = 4096, -4096                                # first and last token of each group
    yield case("ballast_tokens", rows, corpus.integers(rng, 3, 4, 16), (16, 0, 24))
    twelve = 2 * rng.integers(1024, 2048, (7, 4)) + 1.0                        # odd: 12 significant bits
    yield case("twelve_bits_rows", twelve, corpus.integers(rng, 2, 4, 5), (3, 4))
    twelve = 2 * rng.integers(1024, 2048, (2, 4, 5)) + 1.0
    yield case("twelve_bits_weights", corpus.integers(rng, 7, 4), twelve, (3, 4))
    yield case("long_features", corpus.integers(rng, 3, 1025), corpus.integers(rng, 2, 1025, 2), (1, 2))
    yield case("long_group", corpus.integers(rng, 2100, 2), corpus.integers(rng, 2, 2, 3), (2077, 23))


RIGHT = {"rows": np.zeros((4, 3)), "w": np.zeros((2, 3, 5)), "offsets": np.array([0, 2, 4])}
INVALID = (
    *offset_errors("grouped_matmul", **RIGHT),
    (Case("other_width", {**RIGHT, "w": np.zeros((2, 4, 5))}), ValueError,
     r"grouped_matmul: w has shape \(2, 4, 5\), but D must be 3 \(D=3, rows has shape \(4, 3\)\)"),
    (Case("integer_rows", {**RIGHT, "rows": np.zeros((4, 3), int)}), TypeError, r"grouped_matmul: rows has dtype int64"),
)


def _definition(run, of=lambda x: x):
    v = dense.reals(run.inputs, of)
    return dense.product(v["rows"], v["w"], dense.owner(run))


REQUIREMENTS = (
    Req("GROUPED_MATMUL-1", "Every live row is multiplied by the matrix of its own expert.",
        lambda r: dense.close(r, r.outputs.out, _definition(r), _definition(r, np.abs), r.dims.D + 2)),
    Req("GROUPED_MATMUL-2", "Dead rows give 0 and get gradient 0, whatever they hold.", dense.dead_rows),
    Req("GROUPED_MATMUL-3", "An expert without rows gets a gradient of exactly 0.", dense.idle_experts),
    Req("GROUPED_MATMUL-4", "Backward is the adjoint: <dout, out> = <drows, rows> = <dw, w>.",
        lambda r: dense.adjoint(r, _definition(r, np.abs), r.dims.D + r.dims.F + r.dims.N + 4, ("rows",), ("w",))),
)

OP = Op(
    name="experts.grouped_matmul",
    inputs=(Arg("rows", "N D"), Arg("w", "E D F"), Arg("offsets", "E+1", "count")),
    outputs=(Arg("out", "N F"),),
    forward=grouped_matmul,
    backward=grouped_matmul_backward,
    cases=cases,
    invalid=INVALID,
    requirements=REQUIREMENTS,
    check=_check,
    flops=lambda N, D, F, **_: (2 * N * D * F, 4 * N * D * F),
    refs=("Gale et al. 2022",),
)
