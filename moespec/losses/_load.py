"""Load: a smooth count of the tokens of every expert (Shazeer et al. 2017, eqs 8-10)."""

from typing import NamedTuple

import numpy as np

from moespec import corpus, indexing
from moespec.losses._checks import near, reals
from moespec.numerics import acc, ndtr, normal_pdf, widen
from moespec.op import Arg, Case, Op, Req
from moespec.pairs import Pair


class Load(NamedTuple):
    """The load of every expert, and the order of the noisy logits that the thresholds were taken from."""

    load: np.ndarray        # E
    order: np.ndarray       # T M   the min(k+1, E) largest, descending


class Saved(NamedTuple):
    dtypes: tuple           # of clean, sigma, noisy
    sigma: np.ndarray       # T E
    z: np.ndarray           # T E
    order: np.ndarray       # T M
    k: int


def load(clean, sigma, noisy, order=None, *, k):
    r"""The expected number of tokens that an expert gets if its own noise is drawn again.

    .. math:: \mathrm{Load}_i = \sum_t P(t, i), \qquad
              P(t, i) = \Phi\Big( \frac{c_{ti} - \theta_{ti}}{\sigma_{ti}} \Big), \qquad
              \theta_{ti} = \mathrm{kth\_excluding}(h_t, k, i)

    kth_excluding is the k-th largest noisy logit among the *other* experts: the (k+1)-th largest of all for an expert in the
    top k, the k-th for the others.  For k = E every expert is chosen and P is 1.

    Parameters
    ----------
    clean : (T, E) real
        Logits c before the noise.
    sigma : (T, E) real
        Scale of the noise, > 0.
    noisy : (T, E) real
        Logits h that the top k is taken from.
    order : (T, M) integer, optional
        The M = min(k+1, E) largest of `noisy`, descending (replay); otherwise taken in the normative order.
    k : int
        Experts per token, 1 <= k <= E.

    Returns
    -------
    Load(load, order)
        load in the accumulation dtype, order int64.
    Saved
        z, sigma, order.

    Raises
    ------
    ValueError
        k out of range; a sigma that is not positive; an order of another length.

    References
    ----------
    Shazeer et al. 2017, eqs 8-10.
    """
    dims = OP.admit(clean, sigma, noisy, order, k=k)
    c, s, h = widen(clean), widen(sigma), widen(noisy)
    order = indexing.select(h, min(k + 1, dims.E), order).astype(np.int64, copy=False)
    z, p = chances(c, s, h, order, k)
    saved = Saved((clean.dtype, sigma.dtype, noisy.dtype), s, z, order, k)
    return Load(p.sum(0).astype(acc(clean)), order), saved


def load_backward(saved, dload):
    r"""To the clean logit, to the scale, and to the noisy logit that is the threshold: another expert's.

    .. math:: \bar c_{ti} = \frac{\varphi(z_{ti})}{\sigma_{ti}} \bar \ell_i, \qquad \bar \sigma_{ti} = -z_{ti} \bar c_{ti}, \qquad
              \bar h_{tm} = -\sum_{i : \theta_{ti} = h_{tm}} \bar c_{ti}
    """
    dclean, dsigma, dnoisy = chances_backward(saved.sigma, saved.z, saved.order, saved.k, dload)
    return tuple(d.astype(t) for d, t in zip((dclean, dsigma, dnoisy), saved.dtypes, strict=True))


def _check(dims, clean, sigma, noisy, order, *, k):
    require_load("load", sigma, order, k, dims.E)


def require_load(name, sigma, order, k, experts):
    """Refuse a k out of range, an order of another length, a sigma that is not positive."""
    if not 1 <= k <= experts:
        raise ValueError(f"{name}: k={k} must be in 1 .. {experts} (sigma has shape {tuple(sigma.shape)})")
    if order is not None and order.shape[1] != min(k + 1, experts):
        raise ValueError(f"{name}: order has shape {order.shape}, wanted {min(k + 1, experts)} columns for k={k} of {experts} experts")
    if not isinstance(sigma, Pair) and sigma.size and sigma.min() <= 0:
        raise ValueError(f"{name}: sigma holds {sigma.min()}, wanted above 0 (sigma has shape {sigma.shape})")


def inside(order, k, experts):
    """bool[T, E]: whether an expert is in the top k."""
    return indexing.untake(np.ones((len(order), k)), order[:, :k], experts) > 0


def chances(clean, sigma, noisy, order, k):
    """z and P(t, i); z is inf for k = E."""
    experts = noisy.shape[1]
    if k >= experts:
        return np.full(noisy.shape, np.inf, noisy.dtype), np.ones(noisy.shape, noisy.dtype)
    kth, next_one = indexing.take(noisy, order[:, k - 1:k]), indexing.take(noisy, order[:, k:k + 1])
    z = (clean - np.where(inside(order, k, experts), next_one, kth)) / sigma
    return z, ndtr(z)


def chances_backward(sigma, z, order, k, dload):
    """Gradients of clean, sigma and noisy; `dload` is [E], or [T, E]."""
    experts = sigma.shape[1]
    if k >= experts:
        zeros = np.zeros(sigma.shape)
        return zeros, zeros, zeros
    dclean = normal_pdf(z) * dload / sigma
    top = inside(order, k, experts)
    thresholds = [np.where(top, 0.0, dclean).sum(1), np.where(top, dclean, 0.0).sum(1)]             # the k-th, the (k+1)-th
    dnoisy = indexing.untake(-np.stack(thresholds, 1), order[:, k - 1:k + 1], experts)
    return dclean, -z * dclean, dnoisy


# ---- what is checked -------------------------------------------------------------------------------------------------

def logits(rng, t, e, scale=1.0):
    """Clean logits, scales, and noisy logits as the gate makes them."""
    clean, sigma = corpus.normal(rng, t, e, scale=scale), np.abs(corpus.normal(rng, t, e)) + 0.1
    return {"clean": clean, "sigma": sigma, "noisy": clean + sigma * corpus.normal(rng, t, e)}


def cases(rng):
    for name, t, e in (("normal", 6, 5), ("many_experts", 3, 16), ("two_experts", 5, 2), ("one_token", 1, 4), ("one_expert", 3, 1),
                       ("no_tokens", 0, 3)):
        for k in sorted({1, min(2, e), max(1, e - 1), e}):
            yield Case(name, logits(rng, t, e), {}, frozenset({"empty"} if not t else ())).with_(f"k{k}", k=k)
    ties = {"clean": corpus.dyadic(rng, 4, 5), "sigma": np.full((4, 5), 0.5), "noisy": np.tile([1.0, 2, 2, 1, 1], (4, 1))}
    yield Case("ties", ties, {"k": 2})
    yield Case("far_apart", logits(rng, 4, 5, scale=30.0), {"k": 2}, frozenset({"steep"}))
    small = logits(rng, 4, 5)
    yield Case("small_sigma", {**small, "sigma": np.full((4, 5), 0.0625)}, {"k": 2}, frozenset({"steep"}))
    spoilt = logits(rng, 3, 4)
    spoilt["noisy"][1, 2] = np.nan
    yield Case("nan_noisy", spoilt, {"k": 2}, frozenset({"nan"}))


def invalid(name):
    right = {n: np.ones((3, 4)) for n in ("clean", "sigma", "noisy")}
    return (
        (Case("k_above_experts", right, {"k": 5}), ValueError, rf"^{name}: k=5 must be in 1 \.\. 4 \(sigma has shape \(3, 4\)\)"),
        (Case("k_zero", right, {"k": 0}), ValueError, rf"^{name}: k=0 must be in 1 \.\. 4"),
        (Case("sigma_zero", {**right, "sigma": np.zeros((3, 4))}, {"k": 2}), ValueError, rf"^{name}: sigma holds 0.0, wanted above 0"),
        (Case("order_short", {**right, "order": np.zeros((3, 2), int)}, {"k": 2}), ValueError,
         rf"^{name}: order has shape \(3, 2\), wanted 3 columns for k=2 of 4 experts"),
    )


def by_definition(run, k):
    """P(t, i) by the definition: sort the others, take the k-th."""
    from scipy import special
    v = reals(run.inputs)
    p = np.ones((run.dims.T, run.dims.E))
    if k < run.dims.E:
        for t, i in np.ndindex(p.shape):
            others = sorted((v["noisy"][t, j] for j in range(run.dims.E) if j != i), reverse=True)
            p[t, i] = special.ndtr((v["clean"][t, i] - others[k - 1]) / v["sigma"][t, i])
    return p


def _definition(run):
    if not all(np.isfinite(np.asarray(run.inputs[n], float)).all() for n in ("clean", "sigma", "noisy")):
        return None
    reach = sum(np.abs(np.asarray(run.inputs[n], float)).max(initial=1.0) for n in ("clean", "noisy"))
    return near(run, run.outputs.load, by_definition(run, run.dims.k).sum(0),
                run.dims.T * (1 + reach / np.asarray(run.inputs["sigma"], float).min(initial=1.0)))


REQUIREMENTS = (
    Req("LOAD-1", "P is Phi((clean - k-th largest of the others) / sigma).", _definition),
    Req("LOAD-2", "For k = E the load is the number of tokens.",
        lambda r: None if r.dims.k < r.dims.E else r.outputs.load == r.dims.T),
    Req("LOAD-3", "Moving all logits of a token by the same amount moves nothing: the gradients of its logits sum to 0.",
        lambda r: None if not np.isfinite(np.asarray(r.grads["noisy"], float)).all() else near(
            r, np.asarray(r.grads["clean"], float).sum(1), -np.asarray(r.grads["noisy"], float).sum(1),
            np.abs(np.asarray(r.grads["clean"], float)).sum(1), units=64 * r.unit / min(r.unit, 2.0**-24))),
)

LOGITS = (Arg("clean", "T E"), Arg("sigma", "T E"), Arg("noisy", "T E"))
ORDER = Arg("order", "T M", "index", of="E", optional=True)

OP = Op(
    name="losses.load",
    inputs=(*LOGITS, ORDER),
    outputs=(Arg("load", "E", like="acc"), Arg("order", "T M", "index", of="E")),
    forward=load,
    backward=load_backward,
    cases=cases,
    invalid=invalid("load"),
    requirements=REQUIREMENTS,
    check=_check,
    flops=lambda T, E, **_: (12 * T * E, 10 * T * E),
    refs=("Shazeer et al. 2017, eqs 8-10",),
)
