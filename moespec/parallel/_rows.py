"""Rows of every rank's own plan, and the rows of the plan of all tokens: one is a permutation of the other."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from moespec.op import Arg, Op
from moespec.parallel._arrays import namespace


class Saved(NamedTuple):
    link: Any
    sizes: tuple            # live rows of every rank
    order: np.ndarray       # from (rank, expert, arrival) to (expert, rank, arrival)
    mine: np.ndarray        # where this rank's live rows are among all
    rows: tuple             # N_r of this rank, N of all
    label: str

    def together(self, x, label):
        """The live rows of all ranks, expert by expert, then the dead ones."""
        found = self.link.all_gather(label, x[:self.sizes[self.link.rank]], self.sizes)
        return _padded(found[namespace(found).asarray(self.order)], self.rows[1])

    def apart(self, x):
        """This rank's rows."""
        return _padded(x[namespace(x).asarray(self.mine)], self.rows[0])


def _padded(rows, n):
    xp = namespace(rows)
    return xp.concatenate([rows, xp.zeros((n - len(rows), *rows.shape[1:]), rows.dtype)])


def _layout(offsets, rows, label, link):
    """Counts and row numbers of all ranks, and what follows from them."""
    counts = np.diff(link.host(offsets)).astype(np.int64)
    told = link.all_gather(f"{label} counts", np.append(counts, rows)[None], [1] * link.size)
    counts, n = told[:, :-1], told[:, -1]
    sizes = counts.sum(1)
    order = np.argsort(np.repeat(np.tile(np.arange(counts.shape[1]), link.size), counts.ravel()), kind="stable")
    start = int(sizes[:link.rank].sum())
    mine = np.argsort(order, kind="stable")[start:start + int(sizes[link.rank])]
    return Saved(link, tuple(sizes.tolist()), order, mine, (int(n[link.rank]), int(n.sum())), label)


def gather_rows(x, offsets, *, label="gather rows", link):
    r"""The rows of all ranks in the (expert, token, choice) order of one plan for all tokens.

    Parameters
    ----------
    x : (N_r, ...) array
        Rows of this rank's plan; those from ``offsets[E]`` on are dead.
    offsets : (E + 1,) integer
        Of this rank's plan.
    label : str
        Name of the exchange.
    link : Link

    Returns
    -------
    y : (N, ...) array
    Saved
    """
    saved = _layout(offsets, len(x), label, link)
    return saved.together(x, label), saved


def gather_rows_backward(saved, dy):
    """This rank's rows of the cotangent; nothing is exchanged."""
    return saved.apart(dy)


def part_rows(x, row, offsets, *, label="part rows", link):
    r"""This rank's rows of what every rank has: the inverse of `gather_rows`.

    Parameters
    ----------
    x : (N, ...) array
        The same on every rank.
    row : (T_r, K) integer
        Of this rank's plan, which has T_r K rows.
    offsets : (E + 1,) integer
        Of this rank's plan.
    label : str
        Name of the exchange.
    link : Link

    Returns
    -------
    y : (N_r, ...) array
    Saved

    Raises
    ------
    ValueError
        x has another number of rows than the plans of all ranks.
    """
    saved = _layout(offsets, int(np.prod(row.shape)), label, link)
    if len(x) != saved.rows[1]:
        raise ValueError(f"part_rows: x has shape {tuple(x.shape)}, the plans of all ranks have {saved.rows[1]} rows")
    return saved.apart(x), saved


def part_rows_backward(saved, dy):
    """The rows of all ranks: an all-gather, so that every rank has the whole cotangent."""
    return saved.together(dy, f"{saved.label} gradient")


OPS = (
    Op(name="parallel.gather_rows", inputs=(Arg("x", "M ..."), Arg("offsets", "E+1", "count")), outputs=(Arg("y", "N ..."),),
       forward=gather_rows, backward=gather_rows_backward),
    Op(name="parallel.part_rows", inputs=(Arg("x", "N ..."), Arg("row", "T K", "index"), Arg("offsets", "E+1", "count")),
       outputs=(Arg("y", "M ..."),), forward=part_rows, backward=part_rows_backward),
)
