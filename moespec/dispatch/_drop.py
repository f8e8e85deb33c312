"""Capacity: each expert keeps the first C assignments, in a named order; the rest become -1."""

import numpy as np

from moespec import corpus
from moespec.dispatch._serving import ORDERS, places, sequence
from moespec.indexing import require_groups, require_ids
from moespec.op import Arg, Case, Op, Req


def drop(indices, priority=None, noise=None, group=None, *, experts, capacity, order="choice"):
    r"""Keep the first `capacity` assignments of every expert; the others become -1.

    .. math:: \mathrm{kept}_{tj} = \begin{cases} i_{tj} & \#\{\text{assignments of } i_{tj} \text{ served before } (t, j)\} < C \\
              -1 & \text{otherwise} \end{cases}

    The place of an assignment is counted among *all* assignments of its expert, kept or not (an exclusive cumulative sum:
    exactly C are kept, not C - 1).  Orders of service:

    ``token``
        token by token, a token's choices in turn;
    ``choice``
        all first choices in token order, then all second choices ... (GShard, Switch, Mesh);
    ``score``
        the highest `priority` first, ties in order ``token``;
    ``batch``
        batch-prioritised (V-MoE): tokens by their largest priority, descending, ties to the earlier token; then as ``choice``;
    ``random``
        tokens by ascending `noise`, ties to the earlier token; then as ``choice``.

    Priorities compare in the normative order: a NaN is served first.

    Parameters
    ----------
    indices : (T, K) integer
        -1 takes no place and stays -1; a repeated id takes two.
    priority : (T, K) real, optional
        For the orders ``score`` and ``batch``; constant under differentiation.
    noise : (T,) real, optional
        For the order ``random``.
    group : (T,) integer, optional
        Capacity counts per group (a batch row) and expert.
    experts : int
        E.
    capacity : int or None
        C; 0 drops everything, None nothing.
    order : str

    Returns
    -------
    kept : (T, K) int64
    None

    Raises
    ------
    ValueError
        An unknown order, one without its array, a negative capacity, an id outside -1 .. E-1, a negative group.

    References
    ----------
    Lepikhin et al. 2020, algorithm 1; Fedus et al. 2021, eq. 3; Riquelme et al. 2021, section 3.3 (batch priority).

    Examples
    --------
    Both tokens want expert 0 first, and it has room for one assignment:

    >>> import numpy as np
    >>> from moespec import dispatch
    >>> kept, _ = dispatch.drop(np.array([[0, 1], [0, 1]]), experts=2, capacity=1)
    >>> kept
    array([[ 0,  1],
           [-1, -1]])
    """
    OP.admit(indices, priority, noise, group, experts=experts, capacity=capacity, order=order)
    if capacity is None:
        return indices.astype(np.int64), None
    place = places(indices, sequence(indices, order, priority, noise), experts, group)
    return np.where((indices >= 0) & (place < capacity), indices, -1).astype(np.int64), None


def _check(dims, indices, priority, noise, group, *, experts, capacity, order="choice"):
    require_ids("drop", indices, experts)
    if order not in ORDERS:
        raise ValueError(f"drop: order={order!r} is not one of {', '.join(ORDERS)}")
    for name, array, orders in (("priority", priority, ("score", "batch")), ("noise", noise, ("random",))):
        if order in orders and array is None:
            raise ValueError(f"drop: order={order!r} needs {name} (indices has shape {indices.shape})")
    require_capacity("drop", capacity, group, indices.shape)


def require_capacity(name, capacity, group, shape):
    """Refuse a negative capacity and negative group ids."""
    if capacity is not None and capacity < 0:
        raise ValueError(f"{name}: capacity={capacity} must be at least 0, or None for no limit (indices has shape {shape})")
    require_groups(name, group)


# ---- what is checked -------------------------------------------------------------------------------------------------

def cases(rng):
    for case in corpus.routings(rng):
        ids = case.inputs["indices"]
        arrays = {"priority": corpus.dyadic(rng, *ids.shape, bits=1), "noise": corpus.normal(rng, len(ids))}
        for order in ORDERS:
            for c in (0, 1, 3, None):
                yield case.add(tags=_EXACT, **arrays).with_(f"{order}_{c}", experts=8, capacity=c, order=order)
    ids = np.zeros((6, 1), np.int64)
    special = np.array([[1.0], [np.nan], [2.0], [-0.0], [0.0], [2.0]])
    yield Case("nan_priority_first", {"indices": ids, "priority": special}, {"experts": 2, "capacity": 2, "order": "score"}, _EXACT)
    yield Case("tied_priority", {"indices": ids, "priority": np.ones((6, 1))}, {"experts": 2, "capacity": 4, "order": "batch"}, _EXACT)
    rows = np.repeat(np.arange(3), 4)
    for order in ORDERS:
        arrays = {"indices": rng.integers(-1, 3, (12, 2)), "priority": corpus.dyadic(rng, 12, 2), "noise": corpus.normal(rng, 12)}
        yield Case(f"per_row_{order}", {**arrays, "group": rows}, {"experts": 3, "capacity": 2, "order": order}, _EXACT)


_EXACT = frozenset({"exact"})


def _wrong(name, message, inputs=None, **attrs):
    arrays = {"indices": np.zeros((4, 2), int)} | (inputs or {})
    return Case(name, arrays, {"experts": 3, "capacity": 1} | attrs), ValueError, f"drop: {message}"


INVALID = (
    _wrong("id_too_large", r"indices holds 3, outside -1 \.\. 2 \(indices has shape \(4, 2\)\)", {"indices": np.full((4, 2), 3)}),
    _wrong("capacity_negative", "capacity=-1 must be at least 0", capacity=-1),
    _wrong("order_unknown", "order='luck' is not one of token", order="luck"),
    _wrong("no_priority", "order='score' needs priority", order="score"),
    _wrong("no_noise", "order='random' needs noise", order="random"),
    _wrong("group_short", r"group has shape \(3,\), but T must be 4", {"group": np.zeros(3, int)}),
    _wrong("group_negative", "group holds -1", {"group": np.full(4, -1)}),
)


def _per_expert(run, ids):
    """Assignments per (group, expert), counted one by one."""
    group = run.inputs["group"] if run.inputs["group"] is not None else np.zeros(len(ids), int)
    table = np.zeros((int(group.max(initial=0)) + 1, run.dims.experts), int)
    for t, j in np.argwhere(ids >= 0):
        table[group[t], ids[t, j]] += 1
    return table


def _exactly_c(run):
    demand, c = _per_expert(run, run.inputs["indices"]), run.attrs["capacity"]
    return _per_expert(run, run.outputs.kept) == (demand if c is None else np.minimum(demand, c))


def _first_served(run):
    """Nobody who was dropped stands before somebody kept, for the two orders that need no array."""
    if run.attrs["order"] not in ("token", "choice") or run.inputs["group"] is not None:
        return None
    ids, kept = run.inputs["indices"], run.outputs.kept
    walk = list(np.ndindex(ids.shape)) if run.attrs["order"] == "token" else [(t, j) for j, t in np.ndindex(ids.shape[::-1])]
    full = set()
    for t, j in walk:
        if ids[t, j] >= 0 and kept[t, j] < 0:
            full.add(ids[t, j])
        elif kept[t, j] in full:
            return False
    return True


REQUIREMENTS = (
    Req("DROP-1", "Every expert keeps exactly the smaller of its demand and C, per group.", _exactly_c),
    Req("DROP-2", "What is kept is unchanged, what is dropped is -1.",
        lambda r: (r.outputs.kept == r.inputs["indices"]) | (r.outputs.kept == -1)),
    Req("DROP-3", "In the orders token and choice nobody is kept after somebody of the same expert was dropped.", _first_served),
    Req("DROP-4", "No limit (None) keeps everything, 0 keeps nothing.",
        lambda r: {None: r.outputs.kept == r.inputs["indices"], 0: r.outputs.kept == -1}.get(r.attrs["capacity"])),
)

OP = Op(
    name="dispatch.drop",
    inputs=(Arg("indices", "T K", "index", of="E"), Arg("priority", "T K", grad=False, optional=True),
            Arg("noise", "T", grad=False, optional=True), Arg("group", "T", "count", optional=True)),
    outputs=(Arg("kept", "T K", "index", of="E"),),
    forward=drop,
    cases=cases,
    invalid=INVALID,
    requirements=REQUIREMENTS,
    check=_check,
    flops=lambda T, K, **_: (T * K, 0),
    refs=("Lepikhin et al. 2020, algorithm 1", "Fedus et al. 2021, eq. 3", "Riquelme et al. 2021, section 3.3"),
)
