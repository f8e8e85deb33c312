"""The load loss of a two-level gate (Shazeer et al. 2017, appendix B, eq. 14)."""

from typing import Any, NamedTuple

import numpy as np

from moespec import indexing
from moespec.losses._checks import near, reals
from moespec.losses._cooperation import LOSS
from moespec.losses._cv2 import cv2, cv2_backward
from moespec.losses._load import LOGITS, chances, chances_backward, logits, require_load
from moespec.numerics import acc, widen
from moespec.op import Arg, Case, Op, Req


class HierarchicalLoadCv2(NamedTuple):
    """The loss, and the orders that the thresholds of both levels were taken from."""

    loss: np.ndarray            # ()
    order_primary: np.ndarray   # T M
    order: np.ndarray           # T L   per group, min(k+1, E/G) each


class Saved(NamedTuple):
    dtypes: tuple
    primary: tuple[Any, Any, Any, int]      # sigma, z, order, k
    secondary: tuple[Any, Any, Any, int]    # the same with a row per (token, group)
    member: np.ndarray      # T G   1 where the token is in the group
    loads: tuple            # primary load [G], secondary load [G, M], tokens per group [G, 1], hierarchical load [G, M]


def hierarchical_load_cv2(clean_primary, sigma_primary, logits_primary, clean, sigma, noisy, group_indices, order_primary=None, order=None,
                          *, k_primary, k, groups):
    r"""Squared coefficient of variation of the hierarchical load.

    .. math:: \mathrm{Load}_{H,gj} = \frac{\mathrm{Load}_p(X)_g \; \mathrm{Load}_g(X^{(g)})_j}{|X^{(g)}|}, \qquad
              L = \mathrm{CV}^2(\mathrm{Load}_H)

    Load_p is the load of the primary gate over all tokens, Load_g that of group g's secondary gate over the tokens X^(g) that the
    primary gate sent there; a group without tokens has hierarchical load 0.  The count :math:`|X^{(g)}|` and the membership are constant.

    Parameters
    ----------
    clean_primary, sigma_primary, logits_primary : (T, G) real
        Of the primary gate; as clean, sigma, noisy in `load`.
    clean, sigma, noisy : (T, E) real
        Of the secondary gates, group beside group.
    group_indices : (T, A) integer
        The groups that a token was sent to; -1 none.
    order_primary, order : integer, optional
        Replay; see `load`.
    k_primary, k, groups : int
        Groups per token, experts per chosen group, G.

    Returns
    -------
    HierarchicalLoadCv2(loss, order_primary, order)
    Saved

    Raises
    ------
    ValueError
        groups does not divide E; as `load`.

    References
    ----------
    Shazeer et al. 2017, eq. 14.
    """
    dims = OP.admit(clean_primary, sigma_primary, logits_primary, clean, sigma, noisy, group_indices, order_primary, order,
                    k_primary=k_primary, k=k, groups=groups)
    size = dims.E // groups
    first = _level(clean_primary, sigma_primary, logits_primary, order_primary, k_primary, (dims.T, groups))
    second = _level(clean, sigma, noisy, order, k, (dims.T * groups, size))
    member = (indexing.untake(np.ones(group_indices.shape), group_indices, groups) > 0).astype(acc(clean))
    tokens = member.sum(0)[:, None]
    sent = (member[:, :, None] * second[0].reshape(dims.T, groups, size)).sum(0)
    loads = first[0].sum(0), sent, np.maximum(tokens, 1).astype(acc(clean))
    both = loads[0][:, None] * (loads[1] / loads[2])
    dtypes = tuple(a.dtype for a in (clean_primary, sigma_primary, logits_primary, clean, sigma, noisy))
    orders = first[1][2], second[1][2].reshape(dims.T, groups * second[1][2].shape[1])
    out = HierarchicalLoadCv2(cv2(both.reshape(-1)).astype(acc(clean_primary)), *orders)
    return out, Saved(dtypes, first[1], second[1], member, (*loads, both))


def _level(clean, sigma, noisy, order, k, shape):
    """P, and (sigma, z, order, k), with `shape` rows and experts."""
    c, s, h = (widen(a).reshape(shape) for a in (clean, sigma, noisy))
    size = min(k + 1, shape[1])
    order = indexing.select(h, size, None if order is None else order.reshape(shape[0], size)).astype(np.int64, copy=False)
    z, p = chances(c, s, h, order, k)
    return p, (s, z, order, k)


def _check(dims, clean_primary, sigma_primary, logits_primary, clean, sigma, noisy, group_indices, order_primary, order,
           *, k_primary, k, groups):
    if groups != dims.G or dims.E % groups:
        raise ValueError(f"hierarchical_load_cv2: groups={groups} must be the {dims.G} columns of clean_primary "
                         f"and divide the {dims.E} experts (clean has shape {tuple(clean.shape)})")
    require_load("hierarchical_load_cv2", sigma_primary, order_primary, k_primary, groups)
    require_load("hierarchical_load_cv2", sigma, None if order is None else order[:, :order.shape[1] // groups], k, dims.E // groups)


def hierarchical_load_cv2_backward(saved, dloss):
    r"""The product rule of eq. 14, then the gradient of each level's load.

    .. math:: \overline{\mathrm{Load}_p}_g = \sum_j \overline{\mathrm{Load}_H}_{gj} \frac{\mathrm{Load}_{gj}}{|X^{(g)}|}, \qquad
              \overline{\mathrm{Load}}_{gj} = \overline{\mathrm{Load}_H}_{gj} \frac{\mathrm{Load}_{p,g}}{|X^{(g)}|}
    """
    primary, secondary, tokens, both = saved.loads
    d = cv2_backward(both.reshape(-1), dloss).reshape(*both.shape)
    (sigma_p, z_p, order_p, k_p), (sigma_s, z_s, order_s, k_s) = saved.primary, saved.secondary
    first = chances_backward(sigma_p, z_p, order_p, k_p, (d * (secondary / tokens)).sum(1))
    each = saved.member[:, :, None] * (d * (primary[:, None] / tokens))[None]                   # T G M
    second = chances_backward(sigma_s, z_s, order_s, k_s, each.reshape(len(saved.member) * len(both), both.shape[1]))
    shape = (len(saved.member), both.size)
    grads = (*first, *(g.reshape(*shape) for g in second))
    return tuple(g.astype(t) for g, t in zip(grads, saved.dtypes, strict=True))


# ---- what is checked -------------------------------------------------------------------------------------------------

def _two_levels(rng, t, g, m, a, scale=1.0):
    first = {f"{n}_primary": v for n, v in logits(rng, t, g, scale).items()}
    first["logits_primary"] = first.pop("noisy_primary")
    return {**first, **logits(rng, t, g * m, scale), "group_indices": np.argsort(-first["logits_primary"], axis=1)[:, :a]}


def cases(rng):
    for name, t, g, m, a, k in (("normal", 6, 3, 4, 2, 2), ("one_group_each", 5, 3, 2, 1, 1), ("all_groups", 3, 2, 3, 2, 3),
                                ("one_group", 4, 1, 4, 1, 2), ("no_tokens", 0, 2, 3, 1, 1)):
        attrs = {"k_primary": a, "k": k, "groups": g}
        yield Case(name, _two_levels(rng, t, g, m, a), attrs, frozenset({"empty"} if not t else ()))
    empty = _two_levels(rng, 4, 3, 2, 1)
    yield Case("empty_group", {**empty, "group_indices": np.array([[0], [2], [2], [-1]])}, {"k_primary": 1, "k": 1, "groups": 3})


_RIGHT = {"clean_primary": np.ones((3, 2)), "sigma_primary": np.ones((3, 2)), "logits_primary": np.ones((3, 2)), "clean": np.ones((3, 6)),
          "sigma": np.ones((3, 6)), "noisy": np.ones((3, 6)), "group_indices": np.zeros((3, 1), int)}
_ATTRS = {"k_primary": 1, "k": 2, "groups": 2}
INVALID = (
    (Case("groups_differ", _RIGHT, {**_ATTRS, "groups": 3}), ValueError, r"hierarchical_load_cv2: groups=3 must be the 2 columns"),
    (Case("k_above_group", _RIGHT, {**_ATTRS, "k": 4}), ValueError, r"hierarchical_load_cv2: k=4 must be in 1 \.\. 3"),
    (Case("sigma_negative", {**_RIGHT, "sigma": np.full((3, 6), -1.0)}, _ATTRS), ValueError, r"hierarchical_load_cv2: sigma holds -1.0"),
    (Case("group_too_large", {**_RIGHT, "group_indices": np.full((3, 1), 2)}, _ATTRS), ValueError,
     r"hierarchical_load_cv2: group_indices holds 2, outside -1 \.\. 1"),
)


def _definition(run):
    """Equation 14 from the definition of each level's P, token by token."""
    from scipy import special
    v, g, m = reals(run.inputs), run.dims.groups, run.dims.E // run.dims.groups
    if not run.dims.T:
        return None

    def chance(clean, sigma, noisy, k, i):
        others = sorted((x for j, x in enumerate(noisy) if j != i), reverse=True)
        return 1.0 if k > len(others) else special.ndtr((clean[i] - others[k - 1]) / sigma[i])

    table = np.zeros((g, m))
    for a in range(g):
        primary = sum(chance(*level, run.dims.k_primary, a) for level in zip(
            v["clean_primary"], v["sigma_primary"], v["logits_primary"], strict=True))
        sent = [t for t in range(run.dims.T) if a in run.inputs["group_indices"][t]]
        for j in range(m):
            s = slice(a * m, (a + 1) * m)
            own = sum(chance(v["clean"][t, s], v["sigma"][t, s], v["noisy"][t, s], run.dims.k, j) for t in sent)
            table[a, j] = primary * own / max(len(sent), 1)
    size = 100 * run.dims.E / min(v["sigma"].min(), v["sigma_primary"].min())
    return near(run, run.outputs.loss, table.var() / table.mean() ** 2, size)


REQUIREMENTS = (
    Req("HIERARCHICAL_LOAD_CV2-1", "The loss is CV^2 of the primary load times the secondary load per token of the group.", _definition),
    Req("HIERARCHICAL_LOAD_CV2-2", "It is not negative.", lambda r: ~(np.asarray(r.outputs.loss) < 0)),
)

OP = Op(
    name="losses.hierarchical_load_cv2",
    inputs=(Arg("clean_primary", "T G"), Arg("sigma_primary", "T G"), Arg("logits_primary", "T G"), *LOGITS,
            Arg("group_indices", "T A", "index", of="G"), Arg("order_primary", "T M", "index", of="G", optional=True),
            Arg("order", "T L", "index", of="E", optional=True)),
    outputs=(LOSS, Arg("order_primary", "T M", "index", of="G"), Arg("order", "T L", "index", of="E")),
    forward=hierarchical_load_cv2,
    backward=hierarchical_load_cv2_backward,
    cases=cases,
    invalid=INVALID,
    requirements=REQUIREMENTS,
    check=_check,
    flops=lambda T, E, G, **_: (12 * T * (E + G), 10 * T * (E + G)),
    refs=("Shazeer et al. 2017, eq. 14",),
)
