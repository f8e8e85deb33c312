"""What goes over which link, counted from tokens that are drawn one by one: exact, for small numbers of ranks."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

COPIES = ("choice", "rank", "node")


class Level(NamedTuple):
    """Rows and messages of every rank over one level of the network, [R] each; never to itself."""

    rows_out: np.ndarray
    rows_in: np.ndarray
    messages_out: np.ndarray
    messages_in: np.ndarray

    @property
    def rows(self):
        """The larger of both directions, which go on at the same time."""
        return np.maximum(self.rows_out, self.rows_in)

    @property
    def messages(self):
        """Likewise."""
        return np.maximum(self.messages_out, self.messages_in)


class Flow(NamedTuple):
    """One dispatch; combine is the same the other way round."""

    rows: np.ndarray             # [R]: rows that the rank's experts compute
    hit: np.ndarray              # [R]: places of the rank that have at least one row
    intra: Level
    inter: Level


def counted(rng, ids, placement, per_node: int, copies: str) -> Flow:
    """The traffic of tokens whose experts are known.

    Parameters
    ----------
    ids : ndarray [R * T, k]
        Rank by rank; -1 is no expert.
    placement : Placement
        A token goes to one of an expert's replicas, chosen at random.
    per_node : int
    copies : str
        ``"choice"``: a row for every (token, expert).  ``"rank"``: one row for every rank that a token needs.  ``"node"``: one row for
        every other node, to the rank of the same position there, which passes it on to the ranks of its node that need it.
    """
    ranks, width = placement.slots.shape
    place = places(rng, ids, placement)
    loads = np.bincount(place[place >= 0], minlength=ranks * width).reshape(ranks, width)
    source = np.repeat(np.arange(ranks), len(ids) // ranks)
    rank = np.where(place >= 0, place // width, -1)
    node = np.arange(ranks) // per_node
    matrix = _rows(source, rank, ranks, ranks, once=copies != "choice")
    if copies == "node":
        intra, inter = _forwarded(matrix, _rows(source, np.where(rank >= 0, rank // per_node, -1), ranks, node[-1] + 1, once=True), node, per_node)
    else:
        intra, inter = (matrix * mask for mask in (node[:, None] == node, node[:, None] != node))
    return Flow(loads.sum(1), (loads > 0).sum(1), _level(intra), _level(inter))


def places(rng, ids, placement):
    """[n, k]: the place (rank * S + slot) that each choice goes to, -1 for none."""
    slots = placement.slots.reshape(-1)
    filled = np.flatnonzero(slots >= 0)
    by_expert = filled[np.argsort(slots[filled], kind="stable")]
    first = np.concatenate([[0], np.cumsum(placement.copies)])
    at = np.maximum(ids, 0)
    return np.where(ids >= 0, by_expert[first[at] + rng.integers(placement.copies[at])], -1)


def _rows(source, goal, ranks, goals, *, once):
    """[ranks, goals]: rows from each rank to each goal; `once` a token, or once a choice."""
    live = goal >= 0
    if once:
        ordered = np.sort(goal, axis=1)
        live = (ordered >= 0) & (np.diff(ordered, axis=1, prepend=-1) != 0)
        goal = ordered
    pairs = (source[:, None] * goals + goal)[live]
    return np.bincount(pairs, minlength=ranks * goals).reshape(ranks, goals)


def _forwarded(matrix, to_node, node, per_node):
    """Rows between ranks of a node, and between nodes, where a token goes to a node once."""
    ranks = len(node)
    members = np.bincount(node)
    entry = np.arange(members.size) * per_node + (np.arange(ranks) % per_node)[:, None] % members         # [R, N]: who receives for the node
    inter, intra = np.zeros_like(matrix), np.zeros_like(matrix)
    away = node[:, None] != np.arange(members.size)
    np.add.at(inter, (np.broadcast_to(np.arange(ranks)[:, None], away.shape)[away], entry[away]), to_node[away])
    sender = np.where(node[:, None] == node, np.arange(ranks)[:, None], entry[:, node])                    # [R, R]: who hands it to the last rank
    np.add.at(intra, (sender, np.broadcast_to(np.arange(ranks), matrix.shape)), matrix)
    return intra, inter


def _level(matrix):
    moved = matrix * ~np.eye(len(matrix), dtype=bool)
    return Level(moved.sum(1), moved.sum(0), (moved > 0).sum(1), (moved > 0).sum(0))
