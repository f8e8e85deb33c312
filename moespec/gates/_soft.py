"""Soft MoE: every slot is an average of tokens, every token an average of slots (Puigcerver et al. 2023)."""

from typing import NamedTuple

import numpy as np

from moespec import corpus, indexing, numerics
from moespec.gates._softmax import reach, sums_to_one, through_softmax
from moespec.op import Arg, Case, Op, Req


class SoftRouting(NamedTuple):
    """The two matrices of weights."""

    dispatch: np.ndarray    # T S   columns sum to 1 over the tokens of a group
    combine: np.ndarray     # T S   rows sum to 1


class Saved(NamedTuple):
    dispatch: np.ndarray    # T S, not rounded
    combine: np.ndarray     # T S, not rounded
    group: np.ndarray       # T   0, 1, ... by ascending id
    dtype: np.dtype


def soft(logits, group=None):
    r"""Softmax over the tokens of a group for dispatch, over the slots for combine.

    .. math:: D_{ts} = \frac{\exp l_{ts}}{\sum_{t' \in g(t)} \exp l_{t's}}, \qquad C_{ts} = \frac{\exp l_{ts}}{\sum_{s'} \exp l_{ts'}}

    The logits are the products of tokens and slot vectors, both of unit length (`l2_normalize`).  Everything is differentiable;
    nothing is selected, nothing dropped.  A slot averages all tokens of a group, later ones included: not for causal models.

    Parameters
    ----------
    logits : (T, S) real
        S slots, those of an expert next to each other.  A NaN or +inf makes its token's row of C and its group's column of D NaN.
    group : (T,) integer, optional
        Tokens are averaged within their group (a batch row, an image); all tokens form one group by default.

    Returns
    -------
    SoftRouting(dispatch, combine)
        In the dtype of `logits`.
    Saved

    Notes
    -----
    Stored points (`numerics.stored`): dispatch, combine.

    Raises
    ------
    ValueError
        A negative group.

    References
    ----------
    Puigcerver et al. 2023, section 2.1.
    """
    dims = OP.admit(logits, group)
    l, owners = numerics.widen(logits), indexing.members(group, dims.T)
    own = np.zeros(dims.T, np.int64) if group is None else np.unique(group, return_inverse=True)[1]
    over_tokens = indexing.rejoin([numerics.softmax(l[rows], axis=0) for rows in owners], owners)
    dispatch, combine = numerics.stored(over_tokens, "dispatch"), numerics.stored(numerics.softmax(l, axis=1), "combine")
    return SoftRouting(dispatch.astype(logits.dtype), combine.astype(logits.dtype)), Saved(dispatch, combine, own, logits.dtype)


def soft_backward(saved, ddispatch, dcombine):
    r"""The Jacobians of both softmaxes, added.

    .. math:: \bar l_{ts} = D_{ts} \Big( \bar D_{ts} - \sum_{t' \in g(t)} D_{t's} \bar D_{t's} \Big)
              + C_{ts} \Big( \bar C_{ts} - \sum_{s'} C_{ts'} \bar C_{ts'} \Big)
    """
    p, zero = saved.dispatch, np.zeros(saved.dispatch.shape, saved.dispatch.dtype)
    d, dcombine = (zero if given is None else numerics.widen(given) for given in (ddispatch, dcombine))
    total = indexing.add_rows(p * d, saved.group, int(saved.group.max(initial=-1)) + 1)
    over_tokens = p * (d - indexing.take_rows(total, saved.group))
    return (over_tokens + through_softmax(saved.combine, dcombine)).astype(saved.dtype)


def _check(dims, logits, group):
    indexing.require_groups("soft", group)


# ---- what is checked -------------------------------------------------------------------------------------------------

def cases(rng):
    for case in corpus.logits(rng):
        t = len(case.inputs["logits"])
        yield case
        yield case.add("groups", group=rng.permutation(np.arange(t) % 3))
    yield Case("rows_of_a_batch", {"logits": corpus.normal(rng, 12, 4), "group": np.repeat([0, 2, 5], 4)})
    yield Case("groups_of_one", {"logits": corpus.normal(rng, 5, 4), "group": np.array([4, 0, 3, 1, 2])})
    yield Case("uniform", {"logits": np.full((4, 8), 0.5)}, {}, frozenset({"exact_forward"}))


INVALID = (
    (Case("group_short", {"logits": np.zeros((4, 3)), "group": np.zeros(3, int)}), ValueError, r"^soft: group has shape \(3,\), but T must be 4"),
    (Case("group_negative", {"logits": np.zeros((2, 3)), "group": np.array([0, -1])}), ValueError, r"^soft: group holds -1"),
    (Case("integers", {"logits": np.zeros((2, 3), int)}), TypeError, r"^soft: logits has dtype int64"),
)


def _groups(run):
    group = np.zeros(run.dims.T, int) if run.inputs["group"] is None else run.inputs["group"]
    return [group == g for g in set(group.tolist())]


def _columns_sum_to_one(run):
    l = run.inputs["logits"]
    return [sums_to_one(run, run.outputs.dispatch[g].T, True, l) for g in _groups(run)]


def _ratios(run):
    """Within a column (and a group) dispatch, within a row combine is proportional to exp(l)."""
    l = np.asarray(run.inputs["logits"], float)
    if not l.size or not np.isfinite(l).all() or reach(l) > 20:
        return None
    d, c = (np.asarray(x, float) / np.exp(l) for x in (run.outputs.dispatch, run.outputs.combine))
    close = [np.ptp(d[g], axis=0) <= 64 * run.unit * d[g].max(0) + 1e-3 * (run.dtype == "float16") for g in _groups(run)]
    return np.concatenate(close).all() & (np.ptp(c, axis=1) <= 64 * run.unit * c.max(1) + 1e-3 * (run.dtype == "float16")).all()


REQUIREMENTS = (
    Req("SOFT-1", "A slot's dispatch weights sum to 1 over the tokens of a group.", _columns_sum_to_one),
    Req("SOFT-2", "A token's combine weights sum to 1 over the slots.",
        lambda r: sums_to_one(r, r.outputs.combine, True, r.inputs["logits"])),
    Req("SOFT-3", "Both are proportional to exp(logit), along their own axis.", _ratios),
    Req("SOFT-4", "A token alone in its group is dispatched with weight 1.",
        lambda r: None if r.case.name != "groups_of_one" else r.outputs.dispatch == 1),
)

OP = Op(
    name="gates.soft",
    inputs=(Arg("logits", "T S"), Arg("group", "T", "count", optional=True)),
    outputs=(Arg("dispatch", "T S"), Arg("combine", "T S")),
    forward=soft,
    backward=soft_backward,
    cases=cases,
    invalid=INVALID,
    requirements=REQUIREMENTS,
    check=_check,
    flops=lambda T, S, **_: (8 * T * S, 8 * T * S),
    refs=("Puigcerver et al. 2023, section 2.1",),
)
