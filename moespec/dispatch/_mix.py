"""Mix: the rows of the experts as weighted averages of tokens (Soft MoE's dispatch)."""

from typing import NamedTuple

import numpy as np

from moespec import corpus, indexing
from moespec.numerics import widen
from moespec.op import Arg, Case, Op, Req


class Mixed(NamedTuple):
    """Rows sorted by expert."""

    rows: np.ndarray        # N D   row s * groups + g is slot s of group g
    offsets: np.ndarray     # E+1


class Saved(NamedTuple):
    x: np.ndarray           # T D
    dispatch: np.ndarray    # T S
    owners: list            # the tokens of every group
    dtypes: tuple


def mix(x, dispatch, group=None, *, experts, groups=1):
    r"""Fill slot s of group g with the average of the group's tokens.

    .. math:: \mathrm{rows}_{s G + g} = \sum_{t \in g} D_{ts} \, x_t, \qquad \mathrm{offsets}_e = e \, G S / E

    Expert e owns the slots e S/E ... (e + 1) S/E - 1; its slots of all groups are contiguous, so that it sees one block of rows.
    The sum runs over all tokens of the group, whatever their weights: a NaN in one spreads to every slot of its own group (0 times
    NaN), and to no other group.

    Parameters
    ----------
    x : (T, D) real
    dispatch : (T, S) real
        See `gates.soft`.
    group : (T,) integer, optional
        0 .. groups-1; a group without tokens has rows of 0.
    experts : int
        E, a divisor of S.
    groups : int
        G; 1 without `group`.

    Returns
    -------
    Mixed(rows, offsets)
        N = S G rows in the dtype of `x`; int64.
    Saved
        x, dispatch.

    Raises
    ------
    ValueError
        E does not divide S; a group outside 0 .. G-1; several groups without `group`.

    References
    ----------
    Puigcerver et al. 2023, section 2.1.
    """
    dims = OP.admit(x, dispatch, group, experts=experts, groups=groups)
    wide, d, owners = widen(x), widen(dispatch), indexing.members(group, dims.T, groups)
    rows = np.stack([d[own].T @ wide[own] for own in owners], axis=1).reshape(dims.S * groups, dims.D)
    offsets = np.arange(experts + 1, dtype=np.int64) * (dims.S // experts * groups)
    return Mixed(rows.astype(x.dtype), offsets), Saved(wide, d, owners, (x.dtype, dispatch.dtype))


def mix_backward(saved, drows):
    r"""To the tokens the weighted rows, to the weights the inner products.

    .. math:: \bar x_t = \sum_s D_{ts} \, \overline{\mathrm{rows}}_{s G + g(t)}, \qquad
              \bar D_{ts} = \langle x_t, \overline{\mathrm{rows}}_{s G + g(t)} \rangle
    """
    d = by_group(widen(drows), len(saved.owners))
    dx = [saved.dispatch[own] @ d[:, g] for g, own in enumerate(saved.owners)]
    ddispatch = [saved.x[own] @ d[:, g].T for g, own in enumerate(saved.owners)]
    return (indexing.rejoin(dx, saved.owners).astype(saved.dtypes[0]),
            indexing.rejoin(ddispatch, saved.owners).astype(saved.dtypes[1]))


def by_group(rows, groups):
    """[S, G, D]: the rows of slot s and group g."""
    return rows.reshape(rows.shape[0] // groups, groups, rows.shape[1])


def _check(dims, x, dispatch, group, *, experts, groups=1):
    if experts < 1 or dims.S % experts:
        raise ValueError(f"mix: the {dims.S} slots are no multiple of experts={experts} (dispatch has shape {tuple(dispatch.shape)})")
    require_group_below("mix", group, groups, dispatch)


def require_group_below(name, group, groups, weights):
    """Refuse group ids outside 0 .. groups-1, and several groups of which no token says which is its own."""
    shape = tuple(weights.shape)
    if groups < 1 or (group is None and groups > 1):
        raise ValueError(f"{name}: groups={groups} must be 1 without group, and at least 1 with it (the weights have shape {shape})")
    indexing.require_groups(name, group)
    if group is not None and group.size and group.max() >= groups:
        raise ValueError(f"{name}: group holds {group.max()}, outside 0 .. {groups - 1} (group has shape {group.shape})")


# ---- what is checked -------------------------------------------------------------------------------------------------

# name, tokens, slots, the group of every token or None, number of groups
LAYOUTS = (
    ("one_group", 6, 4, None, 1),
    ("rows_of_a_batch", 12, 4, np.repeat(np.arange(3), 4), 3),
    ("interleaved", 7, 6, np.arange(7) % 2, 2),
    ("empty_group", 5, 2, np.array([2, 0, 2, 0, 0]), 3),
    ("one_token", 1, 8, None, 1),
    ("more_slots_than_tokens", 2, 10, np.array([1, 0]), 2),
)


def layouts(rng, real, integers):
    """A case per layout with normal numbers, and one with integers that is exact; the makers get (tokens, slots, groups)."""
    for name, tokens, slots, group, groups in LAYOUTS:
        given = {} if group is None else {"group": group}
        yield Case(name, real(tokens, slots, groups) | given, {"groups": groups})
        yield Case(f"{name}_integers", integers(tokens, slots, groups) | given, {"groups": groups}, frozenset({"exact"}))


def cases(rng):
    def inputs(make):
        return lambda tokens, slots, groups: {"x": make(rng, tokens, 3), "dispatch": make(rng, tokens, slots)}

    for case in layouts(rng, inputs(corpus.normal), inputs(corpus.integers)):
        for experts in (1, 2):
            yield case.with_(f"experts_{experts}", experts=experts)
    yield Case("no_tokens", {"x": np.zeros((0, 3)), "dispatch": np.zeros((0, 4))}, {"experts": 2}, frozenset({"empty"}))
    yield Case("no_tokens_in_groups", {"x": np.zeros((0, 3)), "dispatch": np.zeros((0, 4)), "group": np.zeros(0, int)},
               {"experts": 4, "groups": 2}, frozenset({"empty"}))
    x = corpus.integers(rng, 32, 2)
    weights = np.ones((32, 2))
    x[0], x[-1], weights[0], weights[-1] = 64, -64, 64, 64
    yield Case("ballast", {"x": x, "dispatch": weights}, {"experts": 2}, frozenset({"exact"}))
    x = corpus.normal(rng, 4, 2)
    x[1] = np.nan
    spoilt = {"x": x, "dispatch": corpus.normal(rng, 4, 2), "group": np.array([0, 0, 1, 1])}
    yield Case("nan_stays_in_its_group", spoilt, {"experts": 2, "groups": 2}, frozenset({"nan"}))


def group_errors(name, **inputs):
    """The wrong groups that mix and unmix refuse; `inputs` are right for 4 tokens, 6 slots and one group."""
    def case(what, message, group=None, **attrs):
        given = inputs if group is None else {**inputs, "group": np.asarray(group)}
        return Case(what, given, attrs), ValueError, f"^{name}: {message}"

    return (
        case("groups_without_group", r"groups=2 must be 1 without group, .* \(the weights have shape \(4, 6\)\)", groups=2),
        case("groups_zero", "groups=0 must be", [0, 0, 0, 0], groups=0),
        case("group_too_large", r"group holds 1, outside 0 \.\. 0 \(group has shape \(4,\)\)", [0, 0, 1, 0], groups=1),
        case("group_negative", "group holds -1", [0, -1, 0, 0], groups=1),
        case("group_short", r"group has shape \(3,\), but T must be 4", [0, 0, 0], groups=1),
    )


INVALID = (
    *((c.with_(experts=2), error, text) for c, error, text in group_errors("mix", x=np.zeros((4, 3)), dispatch=np.zeros((4, 6)))),
    (Case("slots_not_divisible", {"x": np.zeros((4, 3)), "dispatch": np.zeros((4, 6))}, {"experts": 4}), ValueError,
     r"^mix: the 6 slots are no multiple of experts=4 \(dispatch has shape \(4, 6\)\)"),
)


def group_of(run):
    """int[T]: the group of every token."""
    return np.zeros(run.dims.T, int) if run.inputs["group"] is None else run.inputs["group"]


def _slot_by_slot(run):
    x, d, group, n = np.asarray(run.inputs["x"], float), np.asarray(run.inputs["dispatch"], float), group_of(run), run.attrs["groups"]
    got, largest = np.asarray(run.outputs.rows, float), (np.abs(d).T @ np.nan_to_num(np.abs(x))).max(initial=0)
    for s, g in np.ndindex(run.dims.S, n):
        want = sum((d[t, s] * x[t] for t in range(run.dims.T) if group[t] == g), np.zeros(run.dims.D))
        if not np.all(np.isnan(want) | (np.abs(got[s * n + g] - want) <= 4 * (run.dims.T + 2) * run.unit * largest)):
            return False
    return True


def _offsets(run):
    return run.outputs.offsets.tolist() == [e * run.dims.S * run.attrs.get("groups", 1) // run.attrs["experts"]
                                            for e in range(run.attrs["experts"] + 1)]


REQUIREMENTS = (
    Req("MIX-1", "Row s G + g is the weighted sum of the tokens of group g, and of no other group.",
        lambda r: None if "groups" not in r.attrs else _slot_by_slot(r)),
    Req("MIX-2", "Every expert has S / E slots of every group, in one block.", _offsets),
    Req("MIX-3", "Weights are linear: <drows, rows> = <ddispatch, dispatch>.", lambda r: linear(r, "rows", "dispatch")),
)


def linear(run, output, weights):
    """<dy, y> = <dw, w>: what is linear in its weights."""
    dy, y, dw, w = (np.asarray(a, float) for a in (run.cotangents[output], getattr(run.outputs, output), run.grads[weights], run.inputs[weights]))
    if not all(np.isfinite(a).all() for a in (y, dw)):
        return None
    size = np.abs(dy * y).sum() + np.abs(dw * w).sum() + np.abs(dy).sum() * np.abs(y).max(initial=0)
    return abs((dy * y).sum() - (dw * w).sum()) <= 64 * (w.size + 1) * run.unit * size + 1e-300


OP = Op(
    name="dispatch.mix",
    inputs=(Arg("x", "T D"), Arg("dispatch", "T S"), Arg("group", "T", "count", optional=True)),
    outputs=(Arg("rows", "N D"), Arg("offsets", "E+1", "count")),
    forward=mix,
    backward=mix_backward,
    cases=cases,
    invalid=INVALID,
    requirements=REQUIREMENTS,
    check=_check,
    flops=lambda T, S, D, **_: (2 * T * S * D, 4 * T * S * D),
    refs=("Puigcerver et al. 2023, section 2.1",),
)
