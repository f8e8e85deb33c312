"""Combine: every token adds up the outputs of its experts, weighted."""

from typing import NamedTuple

import numpy as np

from moespec import corpus, indexing
from moespec.dispatch._permute import planned
from moespec.numerics import widen
from moespec.op import Arg, Case, Op, Req


class Saved(NamedTuple):
    rows: np.ndarray        # N D
    weights: np.ndarray     # T K
    row: np.ndarray         # T K


def combine(rows, weights, row):
    r"""Add up a token's rows in ascending order of choice, each times its weight.

    .. math:: y_t = \sum_{j : \mathrm{row}_{tj} \ge 0} w_{tj} \, \mathrm{rows}_{\mathrm{row}_{tj}}

    The order is fixed, so results repeat bit for bit.  A row index of -1 contributes nothing, whatever its weight; a row that is
    not finite and has weight 0 contributes NaN (IEEE).

    Parameters
    ----------
    rows : (N, D) real
    weights : (T, K) real
    row : (T, K) integer
        See `plan`.

    Returns
    -------
    y : (T, D) real
        In the dtype of `rows`; added up in float32 at least, rounded once.
    Saved
        The inputs.

    Raises
    ------
    ValueError
        A row outside -1 .. N-1.
    """
    dims = OP.admit(rows, weights, row)
    x, w = widen(rows), np.where(row >= 0, widen(weights), 0.0)
    y = np.zeros((dims.T, dims.D), x.dtype)
    for k in range(dims.K):
        y = y + w[:, k:k + 1] * indexing.take_rows(x, row[:, k])
    return y.astype(rows.dtype), Saved(rows, weights, row)


def combine_backward(saved, dy):
    r"""To the rows the weighted cotangent, to the weights the inner products.

    .. math:: \overline{\mathrm{rows}}_n = \sum_{tj : \mathrm{row}_{tj} = n} w_{tj} \bar y_t, \qquad
              \bar w_{tj} = \langle \mathrm{rows}_{\mathrm{row}_{tj}}, \bar y_t \rangle
    """
    x, w, d, row = widen(saved.rows), widen(saved.weights), widen(dy), saved.row
    drows = indexing.add_rows(w[:, :, None] * d[:, None, :], row, len(x))
    inner = [np.where(row[:, k] >= 0, (indexing.take_rows(x, row[:, k]) * d).sum(1), 0.0) for k in range(row.shape[1])]
    dweights = np.stack(inner, 1) if inner else np.zeros(row.shape)
    return drows.astype(saved.rows.dtype), dweights.astype(saved.weights.dtype)


# ---- what is checked -------------------------------------------------------------------------------------------------

def cases(rng):
    def inputs(rows, weights):
        return lambda token, row, t: {"rows": rows(rng, len(token), 3), "weights": weights(rng, *row.shape), "row": row}

    yield from planned(rng, inputs(corpus.normal, corpus.normal))
    for case in planned(rng, inputs(corpus.integers, corpus.integers)):
        yield case.add("integers", tags=("exact",))
    yield from _special(rng)


def _special(rng):
    row = np.arange(24).reshape(3, 8)
    rows, weights = corpus.integers(rng, 24, 4), corpus.integers(rng, 3, 8)
    rows[::8], rows[7::8], weights[:, 0], weights[:, 7] = 64, -64, 64, 64
    yield Case("ballast", {"rows": rows, "weights": weights, "row": row}, {}, frozenset({"exact"}))
    rows = corpus.normal(rng, 4, 2)
    rows[3] = np.nan
    weights = np.array([[1.0, np.nan], [0.5, 0.25]])
    yield Case("nan_nobody_reads", {"rows": rows, "weights": weights, "row": np.array([[0, -1], [1, 2]])}, {}, frozenset({"nan"}))
    yield Case("nan_times_zero", {"rows": rows, "weights": np.array([[0.0], [1.0]]), "row": np.array([[3], [0]])}, {}, frozenset({"nan"}))
    row = np.array([[0, 0], [0, 1], [-1, 1]])
    yield Case("shared_row", {"rows": corpus.normal(rng, 2, 3), "weights": corpus.normal(rng, 3, 2), "row": row})
    many = np.argsort(rng.random(64)).reshape(1, 64)
    yield Case("many_choices", {"rows": corpus.normal(rng, 64, 2), "weights": corpus.normal(rng, 1, 64), "row": many})


INVALID = (
    (Case("row_too_large", {"rows": np.zeros((2, 3)), "weights": np.zeros((1, 1)), "row": np.array([[2]])}), ValueError,
     r"combine: row holds 2, outside -1 \.\. 1 \(row has shape \(1, 1\)\)"),
    (Case("other_choices", {"rows": np.zeros((2, 3)), "weights": np.zeros((1, 2)), "row": np.array([[1]])}), ValueError,
     r"combine: row has shape \(1, 1\), but K must be 2 \(K=2, weights has shape \(1, 2\)\)"),
)


def _nobody(run):
    return (run.inputs["row"] >= 0).any(1, keepdims=True) | (run.outputs.y == 0)


REQUIREMENTS = (
    Req("COMBINE-1", "A token without rows gives 0.", _nobody),
    Req("COMBINE-2", "A weight whose row is -1 gets gradient 0.", lambda r: (r.inputs["row"] >= 0) | (r.grads["weights"] == 0)),
    Req("COMBINE-3", "A row that nobody reads gets gradient 0.",
        lambda r: np.isin(np.arange(r.dims.N), r.inputs["row"])[:, None] | (r.grads["rows"] == 0)),
    Req("COMBINE-4", "Twice the weights give exactly twice the output.",
        lambda r: ~np.isfinite(np.asarray(r.outputs.y, float)) | (
            r.rerun(weights=np.asarray(r.inputs["weights"], float) * 2).y == r.outputs.y * r.dtype.type(2)) | (
            np.abs(np.asarray(r.outputs.y, float)) < 1e-3)),
)

OP = Op(
    name="dispatch.combine",
    inputs=(Arg("rows", "N D"), Arg("weights", "T K"), Arg("row", "T K", "index", of="N")),
    outputs=(Arg("y", "T D"),),
    forward=combine,
    backward=combine_backward,
    cases=cases,
    invalid=INVALID,
    requirements=REQUIREMENTS,
    flops=lambda T, K, D, **_: (2 * T * K * D, 3 * T * K * D),
    refs=("Shazeer et al. 2017, eq. 1",),
)
