"""Defects of the mixtures of 1994: their gates and their likelihood."""

from __future__ import annotations

import numpy as np

from moespec import gates, losses, numerics
from moespec.conformance.mutants._mutant import Mutant


def _determinant_lost(x, means, log_precisions, log_priors):
    logits, saved = gates.gaussian(x, means, log_precisions, log_priors)
    return (logits - 0.5 * numerics.widen(log_precisions).sum(1)).astype(logits.dtype), saved


def _prior_lost(x, means, log_precisions, log_priors):
    return gates.gaussian(x, means, log_precisions, np.zeros_like(log_priors))


def _variances_for_precisions(x, means, log_precisions, log_priors):
    return gates.gaussian(x, means, -log_precisions, log_priors)


def _tokens_pushed_away(saved, dlogits):
    dx, *rest = gates.gaussian_backward(saved, dlogits)
    return -dx, *rest


def _widths_fixed(saved, dlogits):
    dx, dmeans, dlogs, dpriors = gates.gaussian_backward(saved, dlogits)
    return dx, dmeans, np.zeros_like(dlogs), dpriors


def _edges(branching):
    return np.cumsum([0, *np.cumprod(branching)])


def _parents_forgotten(logits, *, branching):
    """The last level alone."""
    log_probs, saved = gates.tree(logits, branching=branching)
    own = numerics.widen(logits)[:, _edges(branching)[-2]:].reshape(-1, branching[-1])
    with np.errstate(all="ignore"):
        found = own - numerics.logsumexp(own, axis=1)[:, None]
    return found.reshape(log_probs.shape).astype(log_probs.dtype), saved


def _normalised_over_a_level(logits, *, branching):
    """One softmax for all nodes of the last level."""
    log_probs, saved = gates.tree(logits, branching=branching)
    last = numerics.widen(logits)[:, _edges(branching)[-2]:]
    with np.errstate(all="ignore"):
        norm = numerics.logsumexp(last, axis=1)[:, None]
        within = last.reshape(len(last), last.shape[1] // branching[-1], branching[-1])
        lost = np.repeat(numerics.logsumexp(within, axis=2), branching[-1], axis=1)
        return (numerics.widen(log_probs) + lost - norm).astype(log_probs.dtype), saved


def _child_by_child(logits, *, branching):
    """A level laid out with the first children of all nodes first."""
    x, edges = np.array(logits), _edges(branching)
    for low, high, b in zip(edges[:-1], edges[1:], branching, strict=True):
        x[:, low:high] = x[:, low:high].reshape(len(x), b, (high - low) // b).swapaxes(1, 2).reshape(len(x), high - low)
    return gates.tree(x, branching=branching)


def _leaves_only(saved, dlog_probs):
    """Nothing reaches the levels above the last."""
    d = gates.tree_backward(saved, dlog_probs)
    d[:, :d.shape[1] - dlog_probs.shape[1]] = 0
    return d


def _posterior_of_the_likelihood(logits, evidence):
    """The prior has no part in who answers."""
    out, saved = losses.mixture_likelihood(logits, evidence)
    with np.errstate(all="ignore"):
        return out._replace(posterior=numerics.softmax(numerics.widen(evidence), axis=1).astype(out.posterior.dtype)), saved


def _floored(logits, evidence):
    out, saved = losses.mixture_likelihood(logits, evidence)
    with np.errstate(all="ignore"):
        density = (numerics.softmax(numerics.widen(logits), axis=1) * np.exp(numerics.widen(evidence))).sum(1)
        loss = -np.log(np.maximum(density, 1e-30)).sum() / max(len(logits), 1)
    return out._replace(loss=loss.astype(out.loss.dtype)), saved


def _summed(logits, evidence):
    out, saved = losses.mixture_likelihood(logits, evidence)
    return out._replace(loss=(out.loss * max(len(logits), 1)).astype(out.loss.dtype)), saved


def _posterior_held(saved, dloss, dposterior):
    """The responsibilities taken as constants."""
    return losses.mixture_likelihood_backward(saved, dloss, None)


def _prior_not_taken_off(saved, dloss, dposterior):
    """The gate's own normaliser forgotten."""
    dlogits, devidence = losses.mixture_likelihood_backward(saved, dloss, dposterior)
    return devidence.astype(dlogits.dtype), devidence


def _one_normaliser(outputs, target, log_precisions):
    """That of one class, however many there are."""
    evidence, saved = losses.gaussian_log_likelihood(outputs, target, log_precisions)
    spare = 0.5 * (target.shape[1] - 1) * (numerics.widen(log_precisions) - np.log(2 * np.pi))
    return (evidence - spare).astype(evidence.dtype), saved


def _constant_left_out(outputs, target, log_precisions):
    evidence, saved = losses.gaussian_log_likelihood(outputs, target, log_precisions)
    return (evidence + 0.5 * target.shape[1] * np.log(2 * np.pi)).astype(evidence.dtype), saved


def _root_of_the_precision(outputs, target, log_precisions):
    return losses.gaussian_log_likelihood(outputs, target, (numerics.widen(log_precisions) / 2).astype(log_precisions.dtype))


def _normaliser_held(saved, devidence):
    """The precision without the gradient of its normaliser."""
    doutputs, dlogs = losses.gaussian_log_likelihood_backward(saved, devidence)
    spare = 0.5 * saved.error.shape[2] * numerics.widen(devidence).sum(0)
    return doutputs, (numerics.widen(dlogs) - spare).astype(dlogs.dtype)


MUTANTS = (
    Mutant("gates.gaussian", "determinant left out", _determinant_lost),
    Mutant("gates.gaussian", "prior left out", _prior_lost),
    Mutant("gates.gaussian", "variances for precisions", _variances_for_precisions),
    Mutant("gates.gaussian", "tokens pushed from the means", backward=_tokens_pushed_away),
    Mutant("gates.gaussian", "widths get no gradient", backward=_widths_fixed),
    Mutant("gates.tree", "gates of the parents left out", _parents_forgotten),
    Mutant("gates.tree", "a level normalised as a whole", _normalised_over_a_level),
    Mutant("gates.tree", "a level laid out child by child", _child_by_child),
    Mutant("gates.tree", "gradient stays in the last level", backward=_leaves_only),
    Mutant("losses.mixture_likelihood", "posterior without the prior", _posterior_of_the_likelihood),
    Mutant("losses.mixture_likelihood", "density underflows to a floor", _floored),
    Mutant("losses.mixture_likelihood", "sum instead of mean", _summed),
    Mutant("losses.mixture_likelihood", "posterior held constant", backward=_posterior_held),
    Mutant("losses.mixture_likelihood", "the gate's normaliser held constant", backward=_prior_not_taken_off),
    Mutant("losses.gaussian_log_likelihood", "normaliser of one class", _one_normaliser),
    Mutant("losses.gaussian_log_likelihood", "constant left out", _constant_left_out),
    Mutant("losses.gaussian_log_likelihood", "root of the precision", _root_of_the_precision),
    Mutant("losses.gaussian_log_likelihood", "normaliser of the precision held constant", backward=_normaliser_held),
)
