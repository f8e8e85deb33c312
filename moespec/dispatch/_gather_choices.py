"""Gather choices: the rows of every token, by choice; `combine` without weights and sum."""

from typing import NamedTuple

import numpy as np

from moespec import corpus, indexing
from moespec.dispatch._permute import planned
from moespec.numerics import widen
from moespec.op import Arg, Case, Op, Req


class Saved(NamedTuple):
    row: np.ndarray         # T K
    rows: int
    dtype: np.dtype


def gather_choices(rows, row):
    r"""The row of every assignment; 0 where the row index is -1.

    .. math:: o_{tj} = \mathrm{rows}_{\mathrm{row}_{tj}}

    With all experts chosen in order these are the expert outputs o[T, E, C] that the losses of 1991 read.

    Parameters
    ----------
    rows : (N, D) real
    row : (T, K) integer
        See `plan`.

    Returns
    -------
    outputs : (T, K, D) real
        Exact.
    Saved
        row, N.

    Raises
    ------
    ValueError
        A row outside -1 .. N-1.
    """
    dims = OP.admit(rows, row)
    return indexing.take_rows(rows, row), Saved(row, dims.N, rows.dtype)


def gather_choices_backward(saved, doutputs):
    r"""Each row adds up the cotangents of the assignments that read it.

    .. math:: \overline{\mathrm{rows}}_n = \sum_{tj : \mathrm{row}_{tj} = n} \bar o_{tj}
    """
    return indexing.add_rows(widen(doutputs), saved.row, saved.rows).astype(saved.dtype)


# ---- what is checked -------------------------------------------------------------------------------------------------

def cases(rng):
    for make, suffix, tags in ((corpus.normal, "", ()), (corpus.integers, "integers", ("exact",))):
        for case in planned(rng, lambda token, row, t, make=make: {"rows": make(rng, len(token), 3), "row": row}):
            yield case.add(suffix, tags=tags)
    yield Case("shared_row", {"rows": corpus.normal(rng, 2, 3), "row": np.array([[0, 0], [1, -1]])})


INVALID = (
    (Case("row_too_large", {"rows": np.zeros((2, 3)), "row": np.array([[2]])}), ValueError,
     r"gather_choices: row holds 2, outside -1 \.\. 1"),
)


def _each(run):
    rows, row, found = np.asarray(run.inputs["rows"], float), run.inputs["row"], np.asarray(run.outputs.outputs, float)
    return [np.array_equal(found[t, j], rows[row[t, j]] if row[t, j] >= 0 else np.zeros(run.dims.D)) for t, j in np.ndindex(row.shape)]


REQUIREMENTS = (
    Req("GATHER_CHOICES-1", "An assignment reads its row, bit for bit, and 0 at -1.", _each),
    Req("GATHER_CHOICES-2", "A row that nobody reads gets gradient 0.",
        lambda r: np.isin(np.arange(r.dims.N), r.inputs["row"])[:, None] | (r.grads["rows"] == 0)),
)

OP = Op(
    name="dispatch.gather_choices",
    inputs=(Arg("rows", "N D"), Arg("row", "T K", "index", of="N")),
    outputs=(Arg("outputs", "T K D"),),
    forward=gather_choices,
    backward=gather_choices_backward,
    cases=cases,
    invalid=INVALID,
    requirements=REQUIREMENTS,
    flops=lambda T, K, D, **_: (0, T * K * D),
    refs=("Jacobs et al. 1991, eqs 1.1-1.3 (the outputs o_i)",),
)
