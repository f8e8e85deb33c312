"""Selection by biased scores, limited to the best groups of experts (DeepSeek-V2, V3, and what follows them)."""

import numpy as np

from moespec import corpus, indexing
from moespec.gates._topk import require_k
from moespec.numerics import widen
from moespec.op import Arg, Case, Op, Req
from moespec.pairs import value

REDUCES, BASES = ("top2sum", "max"), ("biased", "raw")


def select(scores, bias=None, indices=None, *, k=None, groups=1, keep=1, reduce="top2sum", base="biased", fill=-np.inf):
    r"""Select the `k` best experts by score plus bias, out of the `keep` best of `groups` groups.

    .. math:: c_{ti} = s_{ti} + b_i, \qquad
              G_{tg} = \begin{cases} \text{sum of the two largest } c_{ti},\; i \in g & \text{top2sum} \\
                                     \max_{i \in g} c_{ti} & \text{max} \end{cases}, \qquad
              m_{ti} = \begin{cases} c_{ti} & g(i) \in \mathrm{top}_{keep}(G_t) \\ \mathrm{fill} & \text{otherwise} \end{cases}, \qquad
              i_t = \mathrm{top}_k(m_t)

    Groups are contiguous and equally large: g(i) = i div (E / groups).  Both selections use the normative order (NaN above every number,
    ties to the lower group or expert), and ids are listed in descending order of m.  The bias selects and does nothing else: weights are
    gathered from the scores, and it has no gradient.  The sum c is formed in the accumulation dtype and not rounded.

    Libraries differ in three points, all attributes here: the group's score is the sum of two with a bias and the maximum without one
    (DeepSeek-V3, V2); a group is judged with or without the bias; experts of groups that are left out get -inf, or 0.  With 0, one of them
    beats an expert of a kept group whose biased score is negative (A.X K2 does this on purpose); for positive c the two fills agree.

    Parameters
    ----------
    scores : (T, E) real
    bias : (E,) real, optional
        Constant under differentiation.
    indices : (T, K) integer, optional
        A given selection, returned as it is (replay); -1 = no expert.
    k : int
        1 <= k <= keep * E / groups.  May be left out with `indices`.
    groups, keep : int
        1 <= keep <= groups; groups divides E.  With one group there is no limit.
    reduce : {"top2sum", "max"}
        The group's score; the sum needs two experts in a group.
    base : {"biased", "raw"}
        What a group is judged by: c, or s.
    fill : float
        -inf or 0.  With -inf an expert of a kept group that is itself at -inf ties with what is left out.

    Returns
    -------
    indices : (T, K) int64
    None
        Nothing is saved: a selection is constant under differentiation.

    Raises
    ------
    ValueError
        k, groups or keep out of range; an unknown reduce or base; a fill that is neither; an index outside -1 .. E-1.

    References
    ----------
    DeepSeek-V2 2024, section 2.1.3 (max); DeepSeek-V3 2024, eq. 16 and section 2.1.2 (bias; sum of the two largest);
    Wang et al. 2024, eq. 3 (bias without groups).
    """
    dims = OP.admit(scores, bias, indices, k=k, groups=groups, keep=keep, reduce=reduce, base=base, fill=fill)
    raw = widen(scores)
    biased = raw if bias is None else raw + widen(bias)
    if keep < groups:
        judged = _group_scores(biased if base == "biased" else raw, groups, reduce)
        given = None if fill == 0 else _touched(indices, dims.E, groups)        # with 0 a choice need not lie in a kept group
        kept = _kept_groups(judged, keep, given)
        biased = np.where(np.repeat(kept, dims.E // groups, axis=1), biased, float(fill))
    return indexing.select(biased, k, indices).astype(np.int64, copy=False), None


def _group_scores(scores, groups, reduce):
    """[T, groups]: what every group is judged by."""
    tokens, experts = scores.shape
    members = scores.reshape((tokens, groups, experts // groups))
    best = np.take_along_axis(members, indexing.topk(members, 2 if reduce == "top2sum" else 1), 2)
    return best.sum(2)


def _kept_groups(judged, keep, touched=None):
    """bool[T, groups]: the `keep` best; under a given selection those that it touched, filled up with the best others."""
    best = indexing.argsort(judged)
    if touched is not None:
        first = np.argsort(~np.take_along_axis(touched, best, 1), axis=1, kind="stable")[:, :keep]
        best = np.take_along_axis(best, np.sort(first, 1), 1)
    chosen = indexing.select(judged, keep, best[:, :keep])                      # judged by margin like any other choice
    kept = np.zeros(value(judged).shape, bool)
    np.put_along_axis(kept, chosen, True, 1)
    return kept


def _touched(indices, experts, groups):
    """bool[T, groups]: the groups of a given selection, or None."""
    if indices is None:
        return None
    mine = np.where(indices >= 0, indices // (experts // groups), -1)
    return (mine[:, None, :] == np.arange(groups)[:, None]).any(2)


def _check(dims, scores, bias, indices, *, k=None, groups=1, keep=1, reduce="top2sum", base="biased", fill=-np.inf):
    shape = f"(scores has shape {tuple(scores.shape)})"
    require_k("select", k, dims.E, scores.shape, indices, of="scores")
    for name, given, known in (("reduce", reduce, REDUCES), ("base", base, BASES), ("fill", fill, (-np.inf, 0.0))):
        if given not in known:
            raise ValueError(f"select: {name}={given!r} is not one of {', '.join(map(str, known))}")
    if groups < 1 or dims.E % groups:
        raise ValueError(f"select: groups={groups} must divide the {dims.E} experts {shape}")
    if not 1 <= keep <= groups:
        raise ValueError(f"select: keep={keep} must be in 1 .. {groups}, the groups {shape}")
    if keep < groups and reduce == "top2sum" and dims.E // groups < 2:
        raise ValueError(f"select: reduce='top2sum' needs two experts in a group, groups={groups} leaves {dims.E // groups} {shape}")
    if indices is None and k > keep * (dims.E // groups):
        raise ValueError(f"select: k={k} exceeds the {keep * (dims.E // groups)} experts of {keep} kept groups {shape}")


# ---- what is checked -------------------------------------------------------------------------------------------------

V3 = {"groups": 4, "keep": 2}
V2 = {"groups": 4, "keep": 2, "reduce": "max"}
LIMITS: tuple[dict, ...] = (V3, {**V3, "base": "raw"}, {**V3, "fill": 0.0}, V2, {**V2, "base": "raw", "fill": 0.0}, {"groups": 2, "keep": 1},
                            {"groups": 4, "keep": 4})


def cases(rng):
    for case in corpus.logits(rng):
        scores = case.inputs["logits"]
        case = case._replace(inputs={"scores": scores}, tags=case.tags | {"exact"})
        yield case.with_("unbiased", k=min(2, scores.shape[1]))
        yield case.add("biased")._replace(inputs={"scores": scores, "bias": corpus.normal(rng, scores.shape[1])},
                                          tags=case.tags - {"exact"}).with_(k=min(3, scores.shape[1]))
    probs = rng.integers(1, 64, (24, 8)) / 64.0                                 # sums are exact in every dtype, ties are many
    for bias, name in ((None, "unbiased"), (corpus.dyadic(rng, 8, bits=4, high=1), "biased"), (-np.arange(8.0) / 4, "all_negative")):
        for n, limits in enumerate(LIMITS):
            yield Case(f"groups_{name}_{n}", {"scores": probs, "bias": bias}, {"k": 2, **limits}, frozenset({"exact"}))
    near = {"scores": np.array([[1.0, 0.5, 1.0, 0.25]]), "bias": np.array([0.0, 0.0, 2.0**-25, 0.0])}      # equal in float32, not in float64
    yield Case("near_tie", near, {"k": 2})
    yield Case("near_tie_of_groups", near, {"k": 1, "groups": 2, "reduce": "max"})
    masked = {n: np.concatenate([a, a[..., :2] / 4], -1) for n, a in near.items()}
    yield Case("near_tie_beside_a_masked_group", masked, {"k": 2, "groups": 3, "keep": 2})
    yield Case("groups_random", {"scores": rng.random((16, 12)), "bias": corpus.normal(rng, 12)}, {"k": 4, "groups": 6, "keep": 3})
    yield from _by_hand_cases()
    ids = np.where(rng.random((6, 3)) < 0.3, -1, rng.integers(0, 8, (6, 3)))
    yield Case("given", {"scores": probs[:6], "bias": np.zeros(8), "indices": ids}, {"k": 3, **V3}, frozenset({"exact"}))
    yield Case("no_tokens_grouped", {"scores": np.zeros((0, 8))}, {"k": 2, **V3}, frozenset({"empty", "exact"}))


def _by_hand_cases():
    exact = frozenset({"exact"})
    yield Case("saturated_ties", {"scores": np.array([[0.5, 1.0, 1.0, 1.0]])}, {"k": 2}, exact)
    yield Case("bias_reorders", {"scores": np.array([[0.75, 0.5, 0.25]]), "bias": np.array([-1.0, 0.0, 0.5])}, {"k": 2}, exact)
    one, two = [1.0, 0.0, 0.75, 0.5], [-0.25, -0.5, -4.0, -4.0]
    yield Case("two_largest_not_the_maximum", {"scores": np.array([one])}, {"k": 1, "groups": 2}, exact)
    yield Case("maximum_not_two_largest", {"scores": np.array([one])}, {"k": 1, "groups": 2, "reduce": "max"}, exact)
    yield Case("negative_with_minus_inf", {"scores": np.array([two])}, {"k": 2, "groups": 2}, exact)
    yield Case("negative_with_zero", {"scores": np.array([two])}, {"k": 2, "groups": 2, "fill": 0.0}, exact)
    yield Case("below_any_sentinel", {"scores": 1e30 * np.array([[-2.0, -1.0, -4.0, -3.0]])}, {"k": 2, "groups": 2}, exact | {"large"})
    judged = {"scores": np.array([[0.5, 0.25, 0.75, 0.5]]), "bias": np.array([1.0, 0.0, 0.0, 0.0])}
    yield Case("judged_with_bias", judged, {"k": 2, "groups": 2}, exact)
    yield Case("judged_without_bias", judged, {"k": 2, "groups": 2, "base": "raw"}, exact)
    yield Case("equal_groups", {"scores": np.full((2, 8), 0.5)}, {"k": 2, **V3}, exact)
    yield Case("nan_in_a_group", {"scores": np.array([[1.0, 2.0, 0.5, np.nan]])}, {"k": 2, "groups": 2}, exact | {"nan"})


_RIGHT = {"scores": np.zeros((16, 8))}
INVALID = (
    (Case("k_above_experts", _RIGHT, {"k": 9}), ValueError, r"^select: k=9 exceeds the 8 experts \(scores has shape \(16, 8\)\)"),
    (Case("neither", _RIGHT), ValueError, r"^select: give k or indices, got neither"),
    (Case("bias_short", {**_RIGHT, "bias": np.zeros(7)}, {"k": 1}), ValueError, r"^select: bias has shape \(7,\), but E must be 8"),
    (Case("groups_uneven", _RIGHT, {"k": 1, "groups": 3}), ValueError, r"^select: groups=3 must divide the 8 experts \(scores has shape \(16, 8\)\)"),
    (Case("keep_above_groups", _RIGHT, {"k": 1, "groups": 2, "keep": 3}), ValueError, r"^select: keep=3 must be in 1 \.\. 2, the groups"),
    (Case("k_above_kept", _RIGHT, {"k": 3, "groups": 4}), ValueError, r"^select: k=3 exceeds the 2 experts of 1 kept groups"),
    (Case("groups_of_one", _RIGHT, {"k": 1, "groups": 8}), ValueError, r"^select: reduce='top2sum' needs two experts in a group, groups=8 leaves 1"),
    (Case("reduce_unknown", _RIGHT, {"k": 1, "reduce": "mean"}), ValueError, r"^select: reduce='mean' is not one of top2sum, max"),
    (Case("base_unknown", _RIGHT, {"k": 1, "base": "logits"}), ValueError, r"^select: base='logits' is not one of biased, raw"),
    (Case("fill_finite", _RIGHT, {"k": 1, "fill": -1e9}), ValueError, r"^select: fill=-1000000000.0 is not one of -inf, 0.0"),
    (Case("id_too_large", {**_RIGHT, "indices": np.full((16, 1), 8)}), ValueError, r"^select: indices holds 8, outside -1 \.\. 7"),
)


def _by_loop(run):
    """Token by token, with sorted lists and no masks."""
    if "exact" not in run.case.tags or run.inputs["indices"] is not None or run.case.tags & {"nan", "inf"}:
        return None
    at = {"groups": 1, "keep": 1, "reduce": "top2sum", "base": "biased", "fill": -np.inf} | run.attrs
    bias = [0.0] * run.dims.E if run.inputs["bias"] is None else run.inputs["bias"].tolist()
    return [_one_token(s, bias, at) == got for s, got in zip(np.asarray(run.inputs["scores"], float).tolist(), run.outputs.indices.tolist(),
                                                             strict=True)]


def _one_token(s, bias, at):
    c = [a + float(b) for a, b in zip(s, bias, strict=True)]
    size, judged = len(s) // at["groups"], c if at["base"] == "biased" else s
    best = [sorted(judged[g * size:(g + 1) * size], reverse=True)[: 2 if at["reduce"] == "top2sum" else 1] for g in range(at["groups"])]
    kept = sorted(range(at["groups"]), key=lambda g: (-sum(best[g]), g))[: at["keep"]]
    m = {i: c[i] if i // size in kept else at["fill"] for i in range(len(s))}
    return sorted(m, key=lambda i: (-m[i], i))[: at["k"]]


def _few_groups(run):
    """With -inf no more than `keep` groups are touched."""
    if run.inputs["indices"] is not None or run.attrs.get("fill", -np.inf) == 0 or not np.isfinite(np.asarray(run.inputs["scores"], float)).all():
        return None
    groups = run.attrs.get("groups", 1)
    return [len(set((row // (run.dims.E // groups)).tolist())) <= run.attrs.get("keep", 1) for row in run.outputs.indices]


def _shift(run):
    """A common shift of an exact bias moves nothing where experts left out are at -inf."""
    if "exact" not in run.case.tags or run.inputs["bias"] is None or run.attrs.get("fill", -np.inf) == 0:
        return None
    return run.rerun(bias=run.inputs["bias"] + run.inputs["bias"].dtype.type(2)).indices == run.outputs.indices


REQUIREMENTS = (
    Req("SELECT-1", "The selection is that of the definition, token by token, with sorted lists.", _by_loop),
    Req("SELECT-2", "Ids are distinct and in range, whatever the scores.",
        lambda r: None if r.inputs["indices"] is not None else (np.diff(np.sort(r.outputs.indices, 1), axis=1) > 0).all() & (
            r.outputs.indices >= 0).all() & (r.outputs.indices < r.dims.E).all()),
    Req("SELECT-3", "With -inf for what is left out, no token's experts lie in more than `keep` groups.", _few_groups),
    Req("SELECT-4", "A bias that is the same for all experts changes nothing.", _shift),
    Req("SELECT-5", "A given selection is returned as it is.",
        lambda r: r.rerun(indices=np.flip(r.outputs.indices, 1)).indices == np.flip(r.outputs.indices, 1)),
)

OP = Op(
    name="gates.select",
    inputs=(Arg("scores", "T E", grad=False), Arg("bias", "E", grad=False, optional=True), Arg("indices", "T K", "index", of="E", optional=True)),
    outputs=(Arg("indices", "T K", "index", of="E"),),
    forward=select,
    cases=cases,
    invalid=INVALID,
    requirements=REQUIREMENTS,
    check=_check,
    flops=lambda T, E, K, **_: (3 * T * E, 0),
    refs=("DeepSeek-V2 2024, section 2.1.3", "DeepSeek-V3 2024, eq. 16", "Wang et al. 2024, eq. 3"),
)
