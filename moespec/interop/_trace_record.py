"""One layer's routing decision, with what a later comparison needs to judge it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from moespec import __version__
from moespec.backend import get_backend
from moespec.layer import LayerSpec
from moespec.numerics import is_real, widen
from moespec.op import as_tuple
from moespec.pairs import UNIT, Pair, policy
from moespec.program import Impl, pack, run

SELECTED = ("indices", "group_indices", "pool.indices")          # the values of a layer that hold a choice, and that replay it
WHOLE_BATCH = ("gates.assign", "gates.batchwise", "gates.expert_choice")
LIMITS = ("dispatch.drop", "dispatch.reroute")


class Selection(NamedTuple):
    """One choice: the ids, and how far a correct run's scores may be from those that it was made on.

    `by` tells how a difference is judged: ``"scores"`` (every id by its own score and the best one left out), ``"decisions"``
    (a token as a whole: `unsure`), ``"batch"`` (tokens depend on each other: not at all).
    """

    op: str                     # "gates.topk"
    by: str
    on: str                     # "logits": the value that the digest is of
    digest: str                 # sha256 of its dtype, shape and bytes
    ids: np.ndarray             # T K, int64, -1 = none
    scores: np.ndarray          # T K, float64: the chosen ids' scores, recomputed exactly; NaN where the id is -1
    errors: np.ndarray          # T K: how far a correct run's may be from them
    left: np.ndarray            # T: the best score left out, -inf if there is none
    left_error: np.ndarray      # T
    unsure: np.ndarray          # T, bool: a choice before this one (of groups, by a threshold) was itself within its error

    @property
    def margin(self):
        """[T]: the lowest chosen score minus the highest one left out; inf for a token without either."""
        return np.where(self.ids >= 0, self.scores, np.inf).min(1, initial=np.inf) - self.left


@dataclass(frozen=True, eq=False)
class Trace:
    """One layer's routing decision: what was chosen, what became of it, and under which declaration."""

    layer: str
    spec: LayerSpec
    version: str                            # of moespec
    dtype: str                              # of x
    capacity: int | None                    # assignments per expert, None without a limit
    selections: dict[str, Selection]        # by the name under which they are replayed
    indices: np.ndarray                     # T K, as the experts saw them: int64, -1 = none
    weights: np.ndarray                     # T K, float32 or float64
    dropped: np.ndarray                     # T K, bool: assignments that the capacity refused (or sent elsewhere)


def record(out, saved, *, layer: str = "0") -> Trace:
    """The routing decision of a layer that was run.

    Beside ids and weights it holds a digest of the scores, and for every choice the scores next to the border with their
    error bounds: the router's part of the program is evaluated once more in float64 on (value, error) pairs (docs/numerics.md),
    from the inputs that the layer was given.

    Parameters
    ----------
    out, saved
        Both from `moespec.forward`.
    layer : str
        The name under which layers are compared, such as ``"model.layers.3.mlp"``.

    Raises
    ------
    TypeError
        The layer decides nothing: Soft MoE.
    """
    if out.routing is None:
        raise TypeError("record: a soft layer sends every token everywhere, there is no decision to record")
    backend, steps = saved.backend, saved.trace.steps
    values: dict[str, Any] = {n: None if v is None else backend.to_numpy(v) for n, v in saved.trace.values.items()}
    made = {name: next((s for s in steps if name in s.reads.split() and name in s.writes.split()), None) for name in SELECTED}
    selections = {name: _selection(steps, step, values, name) for name, step in made.items() if step is not None}
    limit = next((s for s in steps if s.op in LIMITS), None)
    indices, weights = backend.to_numpy(out.routing.indices), backend.to_numpy(out.routing.weights)
    dropped = np.zeros(indices.shape, bool) if limit is None else np.not_equal(values[limit.writes], values[limit.reads.split()[0]])
    return Trace(layer, saved.spec, __version__, values["x"].dtype.name, None if limit is None else limit.attrs["capacity"],
                 selections, indices.astype(np.int64), widen(weights), dropped)


def replay(trace: Trace, *, backend=None) -> dict[str, Any]:
    """The ``context=`` for `moespec.forward` under which the layer chooses what `trace` recorded.

    Only the choice is given.  Weights are gathered from the live scores of all experts, so the router goes on learning; what
    follows the choice (random acceptance, capacity) is decided anew, by the same rules.
    """
    chosen = get_backend(backend)
    return {name: chosen.from_numpy(s.ids) for name, s in trace.selections.items()}


def _selection(steps, step, values, name):
    ids, line = values[name].astype(np.int64), _line(steps, step)
    found, unsure = None, np.zeros(len(ids), bool)
    for last, (kind, scores, chosen, _) in [] if step.op in WHOLE_BATCH else _choices(line, values):
        if last and kind == "select" and chosen.shape == ids.shape and np.array_equal(chosen, ids):
            found = scores
        elif len(scores) == len(ids):
            unsure |= _open(kind, scores, chosen).reshape(len(ids), -1).any(1)
    by = "batch" if step.op in WHOLE_BATCH else "decisions" if found is None else "scores"
    logits = (n for s in reversed(line) for n in s.reads.split() if n.rpartition(".")[2] == "logits" and values.get(n) is not None)
    on = next(logits, step.reads.split()[0])              # a backend may have no scores, where it runs several steps as one
    scores, errors, left, left_error = _border(found, ids)
    return Selection(step.op, by, on, _digest(values[on]), ids, scores, errors, left, left_error, unsure)


def _line(steps, step):
    """The part of a program that leads to a step."""
    needed, line = set(step.reads.split()), [step]
    for before in reversed(steps[:steps.index(step)]):
        if needed & set(before.writes.split()):
            line.append(before)
            needed |= set(before.reads.split())
    return line[::-1]


def _choices(line, values):
    """What a line made its choices on, as (value, error) pairs, and whether the last step did; the choices themselves are replayed."""
    lifted = {n: Pair(v, 0.0, v.dtype) if v is not None and is_real(v.dtype) else v for n, v in values.items()}
    with policy(values["x"].dtype.name) as seen, np.errstate(all="ignore"):
        before = run(line[:-1], lifted, _rounded)
        earlier = len(seen.selections)
        run(line[-1:], before.values, _rounded)
    return [(i >= earlier, choice) for i, choice in enumerate(seen.selections)]


def _rounded(op, attrs):
    """The reference of a step; an output that is held in less than float32 is rounded to it."""
    def forward(*inputs, **attrs):
        outputs, saved = op.forward(*inputs, **attrs)
        return pack(op, [_held(y) for y in as_tuple(outputs)]), saved
    return Impl(forward)


def _held(y):
    unit = UNIT.get(y.dtype.name, 0.0) if isinstance(y, Pair) else 0.0
    return y if unit <= UNIT["float32"] else y.like(y.v, y.e + unit * (np.abs(y.v) + y.e))


def _open(kind, scores, chosen):
    """Whether a choice of groups, or a decision by a threshold, could fall the other way."""
    if kind == "decide":
        return scores.e > 0
    if kind == "assign":
        return np.ones(len(chosen), bool)
    picked = np.zeros(scores.shape, bool)
    np.put_along_axis(picked, np.maximum(chosen, 0), chosen >= 0, -1)
    lowest = np.where(picked, scores.v - scores.e, np.inf).min(-1)
    return ~(lowest > np.where(picked, -np.inf, scores.v + scores.e).max(-1, initial=-np.inf))


def _border(scores, ids):
    """Scores and errors of the chosen ids, and of the best one left out."""
    if scores is None:
        return *(np.full(ids.shape, np.nan) for _ in range(2)), *(np.full(len(ids), np.nan) for _ in range(2))
    live, at = ids >= 0, np.maximum(ids, 0)
    chosen, errors = (np.where(live, np.take_along_axis(a, at, 1), np.nan) for a in (scores.v, scores.e))
    rest_v, rest_e = scores.v.copy(), scores.e.copy()
    token = np.broadcast_to(np.arange(len(ids))[:, None], ids.shape)[live]
    rest_v[token, ids[live]], rest_e[token, ids[live]] = -np.inf, 0.0
    best = np.nan_to_num(rest_v + rest_e, nan=np.inf, posinf=np.inf, neginf=-np.inf).argmax(1)[:, None]
    return chosen, errors, np.take_along_axis(rest_v, best, 1)[:, 0], np.take_along_axis(rest_e, best, 1)[:, 0]


def _digest(array):
    array = np.ascontiguousarray(array)
    return hashlib.sha256(f"{array.dtype.name}{list(array.shape)}".encode() + array.tobytes()).hexdigest()
