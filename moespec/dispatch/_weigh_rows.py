"""Weigh rows: routing weights on what goes into the experts, not on what comes out."""

from typing import NamedTuple

import numpy as np

from moespec import corpus, indexing
from moespec.dispatch._permute import planned
from moespec.dispatch._tokens import near
from moespec.numerics import widen
from moespec.op import Arg, Case, Op, Req


class Saved(NamedTuple):
    rows: np.ndarray        # N D
    weights: np.ndarray     # T K
    row: np.ndarray         # T K


def weigh_rows(rows, weights, row):
    r"""Multiply every row by the weight of the assignment that it belongs to.

    .. math:: \mathrm{out}_n = \mathrm{rows}_n \sum_{tj : \mathrm{row}_{tj} = n} w_{tj}

    In a plan a row belongs to one assignment, and the sum has one term.  A row that nobody has gives 0, whatever it holds.  The
    experts then compute E(w x), which is not w E(x): `combine` must not weigh again, its weights are the 0 and 1 of who is there.

    Parameters
    ----------
    rows : (N, D) real
    weights : (T, K) real
    row : (T, K) integer
        See `plan`; -1 has no row.

    Returns
    -------
    out : (N, D) real
        In the dtype of `rows`.
    Saved
        The inputs.

    Raises
    ------
    ValueError
        A row outside -1 .. N-1.

    References
    ----------
    Meta AI 2025 (Llama 4): sigmoid weights on the input of its experts.
    """
    dims = OP.admit(rows, weights, row)
    scale, owned = _scale(weights, row, dims.N)
    return np.where(owned, scale * widen(rows), 0.0).astype(rows.dtype), Saved(rows, weights, row)


def _scale(weights, row, n):
    """[N, 1]: the weight of every row, and whether it belongs to anybody."""
    scale = indexing.add_rows(widen(weights), row, n)
    return scale.reshape(n, 1), np.isin(np.arange(n), row)[:, None]


def weigh_rows_backward(saved, dout):
    r"""The product rule; a weight without a row gets 0.

    .. math:: \overline{\mathrm{rows}}_n = \overline{\mathrm{out}}_n \sum_{tj : \mathrm{row}_{tj} = n} w_{tj}, \qquad
              \bar w_{tj} = \langle \mathrm{rows}_{\mathrm{row}_{tj}}, \overline{\mathrm{out}}_{\mathrm{row}_{tj}} \rangle
    """
    x, d = widen(saved.rows), widen(dout)
    scale, owned = _scale(saved.weights, saved.row, len(x))
    inner = np.where(owned, x * d, 0.0).sum(1)
    dweights = indexing.take_rows(inner, saved.row)
    return np.where(owned, scale * d, 0.0).astype(saved.rows.dtype), dweights.astype(saved.weights.dtype)


# ---- what is checked -------------------------------------------------------------------------------------------------

def cases(rng):
    for draw, suffix, tags in ((corpus.normal, "", ()), (corpus.integers, "integers", ("exact",))):
        for case in planned(rng, lambda token, row, t, draw=draw: {"rows": draw(rng, len(token), 3), "weights": draw(rng, *row.shape),
                                                                   "row": row}):
            yield case.add(suffix, tags)
    rows = corpus.normal(rng, 4, 2)
    rows[3] = np.nan
    yield Case("nan_nobody_has", {"rows": rows, "weights": np.array([[1.0, np.nan], [0.5, 0.25]]), "row": np.array([[0, -1], [1, 2]])}, {},
               frozenset({"nan"}))
    yield Case("nan_times_zero", {"rows": rows, "weights": np.array([[0.0], [1.0]]), "row": np.array([[3], [0]])}, {}, frozenset({"nan"}))
    yield Case("shared_row", {"rows": corpus.normal(rng, 2, 3), "weights": corpus.normal(rng, 3, 2),
                              "row": np.array([[0, 0], [0, 1], [-1, 1]])})


INVALID = (
    (Case("row_too_large", {"rows": np.zeros((2, 3)), "weights": np.zeros((1, 1)), "row": np.array([[2]])}), ValueError,
     r"^weigh_rows: row holds 2, outside -1 \.\. 1 \(row has shape \(1, 1\)\)"),
    (Case("other_choices", {"rows": np.zeros((2, 3)), "weights": np.zeros((1, 2)), "row": np.array([[1]])}), ValueError,
     r"^weigh_rows: row has shape \(1, 1\), but K must be 2 \(K=2, weights has shape \(1, 2\)\)"),
)


def _nobody(run):
    return ~np.isin(np.arange(run.dims.N), run.inputs["row"])


def _each_assignment(run):
    """Walk the assignments and add up what each gives to its row."""
    rows, weights = np.asarray(run.inputs["rows"], float), np.asarray(run.inputs["weights"], float)
    want, size = np.zeros(rows.shape), np.zeros(rows.shape)
    for t, j in np.argwhere(run.inputs["row"] >= 0):
        n = run.inputs["row"][t, j]
        want[n] += weights[t, j] * rows[n]
        size[n] += np.abs(weights[t, j] * rows[n])
    return near(run, run.outputs.out, want, size, 2 + run.inputs["row"].size)


REQUIREMENTS = (
    Req("WEIGH_ROWS-1", "A row is multiplied by the weight of its assignment.", _each_assignment),
    Req("WEIGH_ROWS-2", "A row that nobody has gives 0 and gets gradient 0, whatever it holds.",
        lambda r: (r.outputs.out[_nobody(r)] == 0).all() & (r.grads["rows"][_nobody(r)] == 0).all()),
    Req("WEIGH_ROWS-3", "A weight whose row is -1 gets gradient 0.", lambda r: (r.inputs["row"] >= 0) | (r.grads["weights"] == 0)),
    Req("WEIGH_ROWS-4", "Twice the weights give exactly twice the rows.",
        lambda r: (r.rerun(weights=np.asarray(r.inputs["weights"], float) * 2).out == r.outputs.out * r.dtype.type(2))
        | ~(np.abs(np.asarray(r.outputs.out, float)) >= 1e-3)),
)

OP = Op(
    name="dispatch.weigh_rows",
    inputs=(Arg("rows", "N D"), Arg("weights", "T K"), Arg("row", "T K", "index", of="N")),
    outputs=(Arg("out", "N D"),),
    forward=weigh_rows,
    backward=weigh_rows_backward,
    cases=cases,
    invalid=INVALID,
    requirements=REQUIREMENTS,
    flops=lambda N, D, **_: (N * D, 3 * N * D),
    refs=("Meta AI 2025 (Llama 4)",),
)
