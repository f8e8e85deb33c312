"""Scatter choices: what is indexed by (token, choice) goes to the rows of the plan."""

from typing import NamedTuple

import numpy as np

from moespec import corpus, indexing
from moespec.dispatch._permute import planned
from moespec.numerics import widen
from moespec.op import Arg, Case, Op, Req


class Saved(NamedTuple):
    row: np.ndarray         # T K
    dtype: np.dtype


def scatter_choices(values, row, *, rows):
    r"""Put the values of an assignment into its row; a row that nobody has is 0.

    .. math:: \mathrm{out}_n = \sum_{tj : \mathrm{row}_{tj} = n} v_{tj}

    Dropout masks are drawn per (token, choice), so that they do not depend on how rows are sorted; this brings them to the rows.

    Parameters
    ----------
    values : (T, K, F) real
    row : (T, K) integer
        See `plan`; -1 goes nowhere.
    rows : int
        N.

    Returns
    -------
    out : (N, F) real
    Saved
        row.

    Raises
    ------
    ValueError
        A row outside -1 .. N-1.
    """
    OP.admit(values, row, rows=rows)
    return indexing.add_rows(widen(values), row, rows).astype(values.dtype), Saved(row, values.dtype)


def scatter_choices_backward(saved, dout):
    r"""Each assignment reads its row.

    .. math:: \bar v_{tj} = \overline{\mathrm{out}}_{\mathrm{row}_{tj}}
    """
    return indexing.take_rows(dout, saved.row).astype(saved.dtype)


def _check(dims, values, row, *, rows):
    if row.size and not -1 <= row.min() <= row.max() < rows:
        raise ValueError(f"scatter_choices: row holds {row.min()} .. {row.max()}, outside -1 .. {rows - 1} (row has shape {row.shape})")


# ---- what is checked -------------------------------------------------------------------------------------------------

def cases(rng):
    for make, suffix, tags in ((corpus.normal, "", ()), (corpus.integers, "integers", ("exact",))):
        for case in planned(rng, lambda token, row, t, make=make: {"values": make(rng, *row.shape, 2), "row": row}):
            yield case.add(suffix, tags=tags).with_(rows=case.inputs["row"].size)
    yield Case("spare_rows", {"values": corpus.normal(rng, 2, 1, 3), "row": np.array([[3], [0]])}, {"rows": 5})


INVALID = (
    (Case("row_too_large", {"values": np.zeros((1, 1, 2)), "row": np.array([[2]])}, {"rows": 2}), ValueError,
     r"scatter_choices: row holds 2 \.\. 2, outside -1 \.\. 1 \(row has shape \(1, 1\)\)"),
)

REQUIREMENTS = (
    Req("SCATTER_CHOICES-1", "A row that nobody has is 0.",
        lambda r: np.isin(np.arange(r.dims.N), r.inputs["row"])[:, None] | (r.outputs.out == 0)),
    Req("SCATTER_CHOICES-2", "An assignment reads back its own value where no other shares its row.",
        lambda r: (r.inputs["row"] < 0)[..., None] | (indexing.take_rows(r.outputs.out, r.inputs["row"]) == r.inputs["values"])),
)

OP = Op(
    name="dispatch.scatter_choices",
    inputs=(Arg("values", "T K F"), Arg("row", "T K", "index", of="N")),
    outputs=(Arg("out", "N F"),),
    forward=scatter_choices,
    backward=scatter_choices_backward,
    cases=cases,
    invalid=INVALID,
    requirements=REQUIREMENTS,
    check=_check,
    flops=lambda T, K, F, **_: (T * K * F, 0),
    refs=("docs/design.md, decision 3",),
)
