"""Two runs, choice by choice: which tokens went elsewhere, where, and whether rounding explains it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from moespec.interop._trace_record import Selection, Trace


class Difference(NamedTuple):
    """One token that was routed differently."""

    layer: str
    name: str                       # the choice: "indices", "group_indices" ...
    token: int
    choice: int                     # the first place at which the ids differ
    kind: str                       # "set": other experts; "order": the same ones; "capacity": chosen alike, dropped or rerouted differently
    first: tuple[int, ...]          # the token's ids in the first trace, and in the second
    second: tuple[int, ...]
    inside: bool | None             # whether both runs may be correct; None: not a matter of one token's scores

    def __str__(self):
        words = {True: "inside the margin", False: "OUTSIDE the margin", None: "not judged"}
        return (f"layer {self.layer}, token {self.token}, {self.name}[{self.choice}]: {list(self.first)} | {list(self.second)}, "
                f"{self.kind} differs, {words[self.inside]}")


def diff(first: list[Trace], second: list[Trace]) -> list[Difference]:
    """Every token of every layer that two runs routed differently.

    A correct run's score s' lies within ``s - e .. s + e``, with s in float64 and the bound e of docs/numerics.md for the dtype
    that was computed in.  A difference is inside the margin if, seen from both traces, every id that the other one lacks could
    have been passed by the best one left out (``s - e <= left + e``), and every two that changed places could have (likewise);
    or if a choice before this one, of groups or by a threshold, was itself within its error.  It explains rounding in this layer:
    two runs whose inputs of the layer differ differ by more.

    Parameters
    ----------
    first, second : list of Trace
        Of the same layers (by name), tokens and declarations.

    Raises
    ------
    ValueError
        The traces are of other layers, routers or sizes: there is nothing to compare.
    """
    ours, theirs = ({t.layer: t for t in traces} for traces in (first, second))
    if set(ours) != set(theirs):
        raise ValueError(f"diff: layers {sorted(set(ours) ^ set(theirs))} are in one of the traces only")
    return [d for layer, trace in ours.items() for d in _layer(trace, theirs[layer])]


def _layer(a, b):
    if (a.spec.router, a.spec.experts.n) != (b.spec.router, b.spec.experts.n) or set(a.selections) != set(b.selections):
        raise ValueError(f"diff: layer {a.layer!r} has other routers in the two traces: {a.spec.router} | {b.spec.router}")
    for name, ids, others in [("indices", a.indices, b.indices), *((n, s.ids, b.selections[n].ids) for n, s in a.selections.items())]:
        if ids.shape != others.shape:
            raise ValueError(f"diff: layer {a.layer!r} has {name} of shape {ids.shape} in one trace and {others.shape} in the other")
    chosen = np.zeros(len(a.indices), bool)
    for name, mine in a.selections.items():
        other = b.selections[name]
        for token in np.flatnonzero((mine.ids != other.ids).any(1)):
            chosen[token] = True
            yield _token(a.layer, name, int(token), mine, other)
    for token in np.flatnonzero((a.indices != b.indices).any(1) & ~chosen):
        first, second = a.indices[token], b.indices[token]
        yield Difference(a.layer, "indices", int(token), _place(first, second), "capacity", tuple(first.tolist()), tuple(second.tolist()), None)


def _token(layer, name, token, a: Selection, b: Selection):
    mine, other = a.ids[token], b.ids[token]
    kind = "order" if np.array_equal(np.sort(mine), np.sort(other)) else "set"
    inside = None if "batch" in (a.by, b.by) else _explained(a, token, other) and _explained(b, token, mine)
    return Difference(layer, name, token, _place(mine, other), kind, tuple(mine.tolist()), tuple(other.tolist()), inside)


def _place(first, second):
    return int(np.flatnonzero(first != second)[0])


def _explained(mine: Selection, token, other):
    """Whether a correct run may have chosen `other` where `mine` was chosen."""
    if mine.unsure[token] or mine.by == "decisions":
        return bool(mine.unsure[token])
    ids, low = mine.ids[token], mine.scores[token] - mine.errors[token]
    high, left = mine.scores[token] + mine.errors[token], mine.left[token] + mine.left_error[token]
    places = {int(e): j for j, e in enumerate(other) if e >= 0}
    kept = [j for j, e in enumerate(ids) if int(e) in places]
    lost = [j for j, e in enumerate(ids) if e >= 0 and int(e) not in places]
    swapped = [(i, j) for i in kept for j in kept if i < j and places[int(ids[i])] > places[int(ids[j])]]
    return all(low[j] <= left for j in lost) and all(low[i] <= high[j] for i, j in swapped)
