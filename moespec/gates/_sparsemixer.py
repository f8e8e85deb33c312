"""SparseMixer-v2: one expert after the other, each with its probability among the near-best (Liu et al. 2024; Phi-3.5-MoE)."""

from typing import NamedTuple

import numpy as np

from moespec import corpus, indexing
from moespec.gates._routing import Routing
from moespec.gates._topk import require_k
from moespec.numerics import widen
from moespec.op import Arg, Case, Op, Req

THIRD, CHANCE = 0.3333, 0.75        # of the published code: the factor, and the probability that it applies


class Saved(NamedTuple):
    probs: tuple            # K times T E
    shares: tuple           # K times T 1: the chosen probability, without the factor
    indices: np.ndarray     # T K
    dtype: np.dtype


def sparsemixer(logits, indices=None, noise=None, heun=None, *, k=2, eps=0.01):
    r"""Choose `k` experts one after the other; the weight of each is its probability among those that come close to the best left.

    .. math:: L_j &= \text{all experts without } i_{t1} \dots i_{t,j-1}, \qquad m_j = \max_{i \in L_j} l_{ti} \\
              C_j &= \{ i \in L_j : m_j - l_{ti} \le 2 \, \mathrm{eps} \, \max(|l_{ti}|, m_j) \}, \qquad
              p_{ji} = \frac{[i \in C_j] \exp l_{ti}}{\sum_{m \in C_j} \exp l_{tm}} \\
              i_{tj} &= \arg\max_{i \in L_j} l_{ti} \;\text{ (evaluation)}, \qquad
              i_{tj} = \arg\max_{i \in C_j} (l_{ti} + \epsilon_{tji}) \;\text{ (training, with Gumbel noise: a sample of } p_j) \\
              w_{tj} &= h_{tj} \, p_{j, i_{tj}}, \qquad
              h_{tj} = \begin{cases} 1 & i_{tj} = \arg\max p_j \text{ or } u_{tj} > 0.75 \text{ or no } u \\ 0.3333 & \text{otherwise} \end{cases}

    The weights of a token do not sum to 1, and nothing renormalises them.  Ties go to the lower expert.  The published code writes
    (m - l) / max(abs(l), m) > 2 eps for what is left out; the product here is the same without its 0/0.

    Parameters
    ----------
    logits : (T, E) real
        A NaN spreads over the token's weights until its expert is chosen, which is first.  Where all that is left is -inf the weight is NaN.
    indices : (T, K) integer, optional
        A given selection; -1 = no expert.  An id that repeats has weight 0 from its second time on: it is no longer left.
    noise : (T, K, E) real, optional
        Gumbel noise (training); constant under differentiation.  Not read with `indices`.
    heun : (T, K) real, optional
        u, uniform in [0, 1) (training); constant under differentiation.
    k : int
        1 <= k <= E.
    eps : float
        >= 0; half the relative distance to the best that still takes part (the jitter of the model).

    Returns
    -------
    Routing(indices, weights)
        int64; the dtype of `logits`.
    Saved

    Raises
    ------
    ValueError
        k out of range, or not the K of what is given; a negative eps; an index outside -1 .. E-1.

    References
    ----------
    Liu et al. 2023 (SparseMixer), section 4; Liu et al. 2024 (GRIN), section 3.1, and the published code of Phi-3.5-MoE.
    """
    dims = OP.admit(logits, indices, noise, heun, k=k, eps=eps)
    l = widen(logits)
    given = indices if noise is not None else indexing.select(l, k, indices)
    taken = np.zeros((dims.T, dims.E), bool)
    columns: list = []
    probs: list = []
    shares: list = []
    weights: list = []
    for j in range(k):
        left = np.where(taken, -np.inf, l)
        far, p = _among_the_best(left, eps)
        ids = None if given is None else given[:, j:j + 1]
        if noise is not None:
            ids = _draw(np.where(far, -np.inf, left) + widen(noise)[:, j], taken, ids)
        share = indexing.take(p, ids)
        weights.append(share if heun is None else share * _factor(ids, left, widen(heun)[:, j:j + 1]))
        columns.append(ids)
        probs.append(p)
        shares.append(share)
        taken = taken | (ids == np.arange(dims.E))
    indices = np.concatenate(columns, 1).astype(np.int64)
    return Routing(indices, np.concatenate(weights, 1).astype(logits.dtype)), Saved(tuple(probs), tuple(shares), indices, logits.dtype)


def sparsemixer_backward(saved, dweights):
    r"""The published estimator: the candidates are constant, and so is the choice.

    .. math:: \bar l_{ti} = \sum_j p_{j, i_{tj}} \big( [i = i_{tj}] - p_{ji} \big) \, \bar w_{tj}

    It leaves out the factor h, which damps the forward alone.  Where h = 1 (always in evaluation) this is the derivative of the weights;
    where h = 0.3333 it is three times that, by design (Heun's third-order method, in the papers; the constants are the code's).
    """
    d, total = widen(dweights), np.zeros(saved.probs[0].shape, dweights.dtype)
    for j, (p, share) in enumerate(zip(saved.probs, saved.shares, strict=True)):
        ids = saved.indices[:, j:j + 1]
        pull = share * d[:, j:j + 1]
        total = total + np.where(ids >= 0, indexing.untake(pull, ids, p.shape[1]) - p * pull, 0.0)
    return total.astype(saved.dtype)


def _among_the_best(left, eps):
    """Which experts stay out, and the softmax over the others."""
    top = left.max(1, keepdims=True)
    with np.errstate(all="ignore"):
        far = (top - left) > 2 * float(eps) * np.maximum(np.abs(left), top)
        t = np.where(far, 0.0, np.exp(left - top))
        return far, t / t.sum(1, keepdims=True)


def _draw(perturbed, taken, given):
    """[T, 1]: the largest that is not taken, also where all that is left is -inf; or the given ids."""
    order = indexing.argsort(perturbed)
    first = (~np.take_along_axis(taken, order, 1)).argmax(1)[:, None]
    return indexing.select(perturbed, 1, np.take_along_axis(order, first, 1) if given is None else given)


def _factor(ids, left, uniform):
    """1, or 0.3333 where another than the most probable was sampled, three times in four."""
    return np.where((ids == indexing.topk(left, 1)) | (uniform > CHANCE), 1.0, THIRD)


def _check(dims, logits, indices, noise, heun, *, k=2, eps=0.01):
    require_k("sparsemixer", k, dims.E, logits.shape, indices)
    if getattr(dims, "K", k) != k:
        raise ValueError(f"sparsemixer: k={k} disagrees with the {dims.K} choices of what is given (logits has shape {tuple(logits.shape)})")
    if not eps >= 0:
        raise ValueError(f"sparsemixer: eps={eps} must be at least 0 (logits has shape {tuple(logits.shape)})")


# ---- what is checked -------------------------------------------------------------------------------------------------

def cases(rng):
    for case in corpus.logits(rng):
        t, e = case.inputs["logits"].shape
        k = min(2, e)
        if case.name in ("normal", "scaled30", "tie_lower_index", "all_negative", "nan"):
            yield case.with_("narrow", k=k)
        yield case.add(tags=("kink",) if case.name == "signed_zeros" else ()).with_("wide", k=k, eps=0.29)        # no dyadic at the threshold
        if case.name in ("normal", "dyadic", "one_expert", "seven_experts", "no_tokens", "nan", "minus_inf"):
            noise, uniform = rng.gumbel(size=(t, k, e)), rng.random((t, k))
            yield case.add("sampled", noise=noise).with_(k=k, eps=0.29)
            yield case.add("training", ("kink",), noise=noise, heun=uniform).with_(k=k, eps=0.29)
    logits = corpus.normal(rng, 6, 5)
    for k, eps in ((1, 0.3), (3, 0.3), (5, 2.0)):
        yield Case("choices", {"logits": logits}).with_(f"{k}_{eps}", k=k, eps=eps)
    yield Case("at_the_threshold", {"logits": np.array([[1.0, 0.5, 0.0], [-1.0, -2.0, -4.0], [0.0, 0.0, -1.0]])}, {"eps": 0.25}, frozenset({"kink"}))
    yield Case("heun_at_its_edge", {"logits": logits[:4], "indices": np.tile([3, 1], (4, 1)), "heun": np.array([[0.75] * 2, [0.7578125] * 2] * 2)},
               {"eps": 2.0}, frozenset({"kink"}))
    ids = np.array([[0, 1], [2, -1], [-1, -1], [4, 4], [-1, 3], [1, 0]])
    yield Case("given", {"logits": logits, "indices": ids}, {"eps": 2.0})
    yield Case("given_training", {"logits": logits, "indices": ids, "heun": rng.random((6, 2))}, {"eps": 2.0}, frozenset({"kink"}))


_RIGHT = {"logits": np.zeros((3, 4))}
INVALID = (
    (Case("k_above_experts", _RIGHT, {"k": 5}), ValueError, r"^sparsemixer: k=5 exceeds the 4 experts \(logits has shape \(3, 4\)\)"),
    (Case("k_disagrees", {**_RIGHT, "heun": np.zeros((3, 3))}, {"k": 2}), ValueError, r"^sparsemixer: k=2 disagrees with the 3 choices"),
    (Case("eps_negative", _RIGHT, {"eps": -0.1}), ValueError, r"^sparsemixer: eps=-0.1 must be at least 0"),
    (Case("noise_of_other_experts", {**_RIGHT, "noise": np.zeros((3, 2, 5))}), ValueError,
     r"^sparsemixer: noise has shape \(3, 2, 5\), but E must be 4"),
)


def _rounds(run):
    """(t, j, id, {candidate: probability}, factor) of every choice, by the definition, for tokens that are finite and calm."""
    logits, eps, heun = np.asarray(run.inputs["logits"], float), run.attrs.get("eps", 0.01), run.inputs["heun"]
    for t, l in enumerate(logits):
        left = dict(enumerate(l.tolist()))
        for j, i in enumerate(run.outputs.indices[t].tolist()):
            if np.isfinite(l).all() and left:
                best = min(left, key=lambda e: (-left[e], e))
                near = {e: np.exp(v - left[best]) for e, v in left.items() if left[best] - v <= 2 * eps * max(abs(v), left[best])}
                total = sum(near.values())
                damped = heun is not None and i != best and heun[t, j] <= 0.75
                yield t, j, i, {e: v / total for e, v in near.items()}, 0.3333 if damped else 1.0
                left.pop(i, None)


def _slack(run):
    """Relative, of a probability: roundings of the exponent included."""
    l = np.asarray(run.inputs["logits"], float)
    return (16 + run.dims.E) * run.unit + 16 * (1 + np.abs(np.where(np.isfinite(l), l, 0)).max(initial=0)) * min(run.unit, 2.0**-24)


def _weights(run):
    got = np.asarray(run.outputs.weights, float)
    return all(abs(got[t, j] - h * p.get(i, 0.0)) <= _slack(run) * p.get(i, 0.0) for t, j, i, p, h in _rounds(run))


def _estimator(run):
    if not np.isfinite(np.asarray(run.inputs["logits"], float)).all():
        return None
    want, size, d = np.zeros((run.dims.T, run.dims.E)), np.zeros((run.dims.T, run.dims.E)), np.asarray(run.cotangents["weights"], float)
    for t, j, i, p, _ in _rounds(run):
        for e, v in p.items():
            term = p.get(i, 0.0) * d[t, j]
            want[t, e] += term * ((e == i) - v)
            size[t, e] += abs(term)
    return np.abs(np.asarray(run.grads["logits"], float) - want) <= 2 * _slack(run) * size


REQUIREMENTS = (
    Req("SPARSEMIXER-1", "A weight is the probability of its expert among the near-best of those left, threshold included, times Heun's factor.",
        _weights),
    Req("SPARSEMIXER-2", "Without noise the ids are those of the k largest logits, in descending order.",
        lambda r: None if not (r.inputs["indices"] is None and r.inputs["noise"] is None) else r.outputs.indices.tolist() == [
            sorted(range(r.dims.E), key=lambda e: (-key[e], e))[: r.dims.K] for key in indexing.order_key(r.inputs["logits"]).tolist()]),
    Req("SPARSEMIXER-3", "Ids are distinct and in range, whatever the logits; a sampled expert is one of the near-best.",
        lambda r: None if r.inputs["indices"] is not None else (np.diff(np.sort(r.outputs.indices, 1), axis=1) > 0).all() & (
            r.outputs.indices >= 0).all() & (r.outputs.indices < r.dims.E).all() & all(i in p for _, _, i, p, _ in _rounds(r))),
    Req("SPARSEMIXER-4", "The gradient is p (onehot - p) times the cotangent, without Heun's factor.", _estimator),
)

OP = Op(
    name="gates.sparsemixer",
    inputs=(Arg("logits", "T E"), Arg("indices", "T K", "index", of="E", optional=True), Arg("noise", "T K E", grad=False, optional=True),
            Arg("heun", "T K", grad=False, optional=True)),
    outputs=(Arg("indices", "T K", "index", of="E"), Arg("weights", "T K")),
    forward=sparsemixer,
    backward=sparsemixer_backward,
    cases=cases,
    invalid=INVALID,
    requirements=REQUIREMENTS,
    check=_check,
    flops=lambda T, E, K, **_: (9 * T * E * K, 3 * T * E * K),
    refs=("Liu et al. 2023, section 4", "Liu et al. 2024, section 3.1"),
)
