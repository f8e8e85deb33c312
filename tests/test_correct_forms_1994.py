"""Right kernels of the mixtures of 1994, written as others write them: the suite must admit each."""

import numpy as np
import pytest
from test_correct_forms import backwards, exp2, failures, wide

from moespec.conformance.mutants import Mutant, Mutated
from moespec.losses import MixtureLikelihood
from moespec.registry import OPS


def gaussian_by_standard_scores(x, means, log_precisions, log_priors):
    """Distances divided by the widths first, the determinant as a sum of their logarithms."""
    tokens, centres, logs, priors = wide(x, means, log_precisions, log_priors)
    z = (tokens[:, None] - centres) * exp2(logs / 2)
    found = priors - (z * z / 2 - logs / 2).sum(2, dtype=tokens.dtype)
    return found.astype(tokens.dtype), (z, exp2(logs / 2), [a.dtype for a in (x, means, log_precisions, log_priors)])


def gaussian_by_standard_scores_backward(saved, dlogits):
    z, inverse, dtypes = saved
    d = dlogits.astype(z.dtype)[:, :, None]
    pull = d * z * inverse
    found = (-pull).sum(1), pull.sum(0), (d * (1 - z * z) / 2).sum(0), d.sum(0)[:, 0]
    return tuple(a.astype(dtype) for a, dtype in zip(found, dtypes, strict=True))


def tree_by_probabilities(logits, *, branching):
    """The logarithm of the softmax of every node, the leaves' paths side by side."""
    (x,) = wide(logits)
    probs, first, nodes = [], 0, 1
    for children in branching:
        own = x[:, first:first + nodes * children].reshape(len(x), nodes, children)
        e = np.exp(own - own.max(2, keepdims=True))
        probs.append((e / e.sum(2, keepdims=True)).reshape(len(x), nodes * children))
        first, nodes = first + nodes * children, nodes * children
    with np.errstate(divide="ignore"):
        leaf = sum(np.log(np.repeat(p, nodes // p.shape[1], axis=1)) for p in probs)
    return leaf.astype(logits.dtype), (probs, branching, logits.dtype)


def tree_by_probabilities_backward(saved, dlog_probs):
    """Every level from the leaves directly."""
    probs, branching, dtype = saved
    d, found = dlog_probs.astype(probs[0].dtype), []
    for p, children in zip(probs, branching, strict=True):
        own = d.reshape(len(d), p.shape[1] // children, children, d.shape[1] // p.shape[1]).sum(3)
        found.append((own - p.reshape(own.shape) * own.sum(2, keepdims=True)).reshape(p.shape))
    return np.concatenate(found, axis=1).astype(dtype)


def likelihood_by_normalised_prior(logits, evidence):
    """The prior's softmax first, then its logarithm; the posterior as exp(joint - evidence of all)."""
    s, v = wide(logits, evidence)
    shift = s - s.max(1, keepdims=True, initial=-np.inf)
    prior = np.exp(shift) / np.exp(shift).sum(1, keepdims=True)
    joint = shift - np.log(backwards(np.exp(shift))) + v
    top = joint.max(1, keepdims=True, initial=-np.inf)
    with np.errstate(invalid="ignore", divide="ignore"):
        whole = np.log(np.exp(joint - np.where(np.isfinite(top), top, 0)).sum(1, keepdims=True)) + np.where(np.isfinite(top), top, 0)
        posterior = np.exp(joint - whole)
    loss = np.asarray(-whole.sum() / max(len(s), 1), s.dtype)
    return MixtureLikelihood(loss, posterior.astype(logits.dtype)), (prior, posterior, logits.dtype, evidence.dtype)


def likelihood_by_normalised_prior_backward(saved, dloss, dposterior):
    """Prior minus posterior, as the papers have it."""
    prior, h, *dtypes = saved
    dh = 0 if dposterior is None else dposterior.astype(h.dtype)
    through = h * dh - h * (h * dh).sum(1, keepdims=True)
    share = h.dtype.type(0 if dloss is None else dloss) / max(len(h), 1)
    return (share * (prior - h) + through).astype(dtypes[0]), (through - share * h).astype(dtypes[1])


def evidence_by_standard_scores(outputs, target, log_precisions):
    o, d, logs = wide(outputs, target, log_precisions)
    z = (d[:, None] - o) * exp2(logs / 2)[:, None]
    evidence = (-(z * z) / 2 - (np.log(o.dtype.type(2 * np.pi)) - logs[:, None]) / 2).sum(2, dtype=o.dtype)
    return evidence, (z, exp2(logs / 2), outputs.dtype, log_precisions.dtype)


def evidence_by_standard_scores_backward(saved, devidence):
    z, inverse, *dtypes = saved
    d = devidence.astype(z.dtype)
    return (d[:, :, None] * z * inverse[:, None]).astype(dtypes[0]), (d[:, :, None] * (1 - z * z) / 2).sum((0, 2)).astype(dtypes[1])


FORMS = [
    ("gates.gaussian", "standard scores", gaussian_by_standard_scores, gaussian_by_standard_scores_backward, ()),
    ("gates.tree", "log of softmax", tree_by_probabilities, tree_by_probabilities_backward, ("scaled30", "huge", "nan_below_its_node")),
    ("losses.mixture_likelihood", "prior minus posterior", likelihood_by_normalised_prior, likelihood_by_normalised_prior_backward, ()),
    ("losses.gaussian_log_likelihood", "standard scores", evidence_by_standard_scores, evidence_by_standard_scores_backward, ()),
]


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "float16"])
@pytest.mark.parametrize(("name", "form", "forward", "backward", "skip"), FORMS, ids=[f"{f[0]}: {f[1]}" for f in FORMS])
def test_a_correct_form_is_admitted(name, form, forward, backward, skip, dtype):
    """Skipped: what underflows in the form."""
    assert not failures(Mutated(Mutant(name, form, forward, backward)), OPS[name], dtype, skip)
