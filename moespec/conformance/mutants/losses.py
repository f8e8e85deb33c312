"""Defects of losses."""

from __future__ import annotations

import numpy as np

from moespec import losses, numerics
from moespec.conformance.mutants._mutant import Mutant
from moespec.op import as_tuple


def _scaled(name, factor):
    """A loss times a factor that depends on its inputs, forward only."""
    right = getattr(losses, name)

    def forward(*inputs, **attrs):
        out, saved = right(*inputs, **attrs)
        c = factor(*inputs, **attrs)
        loss, *rest = as_tuple(out)
        return ((loss * c).astype(loss.dtype), *rest) if rest else (loss * c).astype(loss.dtype), saved
    return forward


def _unbiased(indices, weights, *, experts):
    return experts / max(experts - 1, 1)


def _unbiased_load(clean, *_, **__):
    n = clean.shape[1]
    return n / max(n - 1, 1)


def _times_k(probs, indices, *_, **__):
    return indices.shape[1]


def _mask_ignored(name):
    right = getattr(losses, name)

    def forward(*inputs, **attrs):
        given = list(inputs)
        given[-1] = None
        return right(*given, **attrs)
    return forward


def _threshold_path_lost(saved, *cotangents):
    grads = list(losses.load_cv2_backward(saved, *cotangents))
    grads[2] = np.zeros_like(grads[2])
    return tuple(grads)


def _cooperation_for_specialisation(probs, outputs, target):
    return losses.cooperation(probs, outputs, target)[0], losses.specialisation(probs, outputs, target)[1]


def _prior_lost(logits, outputs, target, *, sigma=1.0):
    return losses.mixture_nll(np.zeros_like(logits), outputs, target, sigma=sigma)


def _sigma_one(logits, outputs, target, *, sigma=1.0):
    return losses.mixture_nll(logits, outputs, target, sigma=1.0)


def _naive(logits, outputs, target, *, sigma=1.0):
    loss, saved = losses.mixture_nll(logits, outputs, target, sigma=sigma)
    s, o, d = (numerics.widen(a) for a in (logits, outputs, target))
    with np.errstate(all="ignore"):
        p = numerics.softmax(s)
        density = (p * np.exp(-((o - d[:, None]) ** 2).sum(2) / (2 * sigma**2))).sum(1)
        return np.asarray(-np.log(np.maximum(density, 1e-30)).mean() if len(s) else 0.0).astype(loss.dtype), saved


def _prior_for_posterior(saved, dloss):
    dlogits, doutputs = losses.mixture_nll_backward(saved, dloss)
    return (dlogits * 0.5).astype(dlogits.dtype), doutputs


def _not_squared(logits, mask=None):
    loss, saved = losses.z_loss(logits, mask)
    if not logits.size:
        return loss, saved
    lse = numerics.logsumexp(numerics.widen(logits), axis=1)
    valid = np.ones(len(lse), bool) if mask is None else mask
    with np.errstate(all="ignore"):
        return np.asarray(np.abs(np.where(valid, lse, 0)).sum() / max(valid.sum(), 1)).astype(loss.dtype), saved


def _all_choices(probs, indices, mask=None, *, choices=None, **attrs):
    return losses.load_balance(probs, indices, mask, **attrs)


def _inclusive_threshold(clean, sigma, noisy, order=None, *, k):
    """The k-th largest for everybody, an expert's own value included."""
    (value, order), saved = losses.load(clean, sigma, noisy, order, k=k)
    if k >= noisy.shape[1]:
        return (value, order), saved
    c, s, h = (numerics.widen(a) for a in (clean, sigma, noisy))
    kth = np.take_along_axis(h, order[:, k - 1:k], 1)
    return (numerics.ndtr((c - kth) / s).sum(0).astype(value.dtype), order), saved


def _floored_sigma(clean, sigma, noisy, order=None, *, k):
    return losses.load(clean, (numerics.widen(sigma) + 1e-2).astype(sigma.dtype), noisy, order, k=k)


def _counts_nobody(logits, outputs, labels):
    return losses.mixture_nll_classification(logits, outputs, np.maximum(labels, 0))


def _uniform_posterior(saved, dloss):
    dlogits, doutputs = losses.mixture_nll_classification_backward(saved, dloss)
    return dlogits, (doutputs * 2).astype(doutputs.dtype)


def _summed_over_groups(*inputs, **attrs):
    out, saved = losses.hierarchical_load_cv2(*inputs, **attrs)
    return (saved.loads[1].var() / np.maximum(saved.loads[1].mean() ** 2, 1e-30)).astype(out.loss.dtype), *out[1:], saved


def _secondary_alone(*inputs, **attrs):
    *out, saved = _summed_over_groups(*inputs, **attrs)
    return tuple(out), saved


def _not_strict(probs, thresholds, *, k):
    loss, saved = losses.batchwise_threshold(probs, thresholds, k=k)
    return loss, saved._replace(difference=saved.difference - (numerics.widen(probs) == numerics.widen(thresholds)))


def _sum(name):
    return _scaled(name, lambda first, *_, **__: max(len(first), 1))


MUTANTS = (
    Mutant("losses.load_balance", "second choices counted too", _all_choices),
    Mutant("losses.load", "inclusive threshold", _inclusive_threshold),
    Mutant("losses.load", "1e-2 added to sigma", _floored_sigma),
    Mutant("losses.mixture_nll_classification", "tokens that do not count are counted", _counts_nobody),
    Mutant("losses.mixture_nll_classification", "gradient of the experts doubled", backward=_uniform_posterior),
    Mutant("losses.hierarchical_load_cv2", "secondary load alone", _secondary_alone),
    Mutant("losses.batchwise_threshold", "at the threshold counts as above", _not_strict),
    Mutant("losses.cooperation", "sum instead of mean", _sum("cooperation")),
    Mutant("losses.z_loss", "sum instead of mean", _sum("z_loss")),
    Mutant("losses.importance_cv2", "unbiased variance", _scaled("importance_cv2", _unbiased)),
    Mutant("losses.load_cv2", "unbiased variance", _scaled("load_cv2", _unbiased_load)),
    Mutant("losses.load_cv2", "gradient through the threshold dropped", backward=_threshold_path_lost),
    Mutant("losses.load_balance", "k at balance instead of 1", _scaled("load_balance", _times_k)),
    Mutant("losses.load_balance", "mask ignored", _mask_ignored("load_balance")),
    Mutant("losses.z_loss", "mask ignored", _mask_ignored("z_loss")),
    Mutant("losses.z_loss", "not squared", _not_squared),
    Mutant("losses.specialisation", "cooperation instead", _cooperation_for_specialisation),
    Mutant("losses.mixture_nll", "prior left out", _prior_lost),
    Mutant("losses.mixture_nll", "sigma ignored", _sigma_one),
    Mutant("losses.mixture_nll", "density underflows to a floor", _naive),
    Mutant("losses.mixture_nll", "gradient of the gate halved", backward=_prior_for_posterior),
)
