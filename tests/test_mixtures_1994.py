"""The ops of the hierarchical mixture and of the Gaussian gate, against the papers' formulas written out."""

import numpy as np
import pytest
from scipy import special, stats

from moespec import gates, losses

RNG = np.random.default_rng(1994)


def softmax(x):
    return special.softmax(x, axis=-1)


@pytest.fixture
def tokens():
    """Edge logits of a tree (2, 3), outputs of its 6 experts, targets, log precisions."""
    return RNG.standard_normal((5, 8)), RNG.standard_normal((5, 6, 2)), RNG.standard_normal((5, 2)), RNG.standard_normal(6)


def test_the_gradients_of_1994_case_by_case(tokens):
    """Top gate: h_i - g_i; lower gates: h_i (h_j|i - g_j|i); experts: h_ij times their own error over the variance."""
    edges, outputs, target, logs = tokens
    leaf, tree = gates.tree(edges, branching=(2, 3))
    evidence, gaussian = losses.gaussian_log_likelihood(outputs, target, logs)
    (_, posterior), saved = losses.mixture_likelihood(leaf, evidence)
    dleaf, devidence = losses.mixture_likelihood_backward(saved, -5.0, None)              # ascent of the sum over 5 tokens
    dedges, (doutputs, _) = gates.tree_backward(tree, dleaf), losses.gaussian_log_likelihood_backward(gaussian, devidence)
    for t in range(5):
        g, own = softmax(edges[t, :2]), softmax(edges[t, 2:].reshape(2, 3))
        density = np.prod(stats.norm.pdf(target[t], outputs[t], np.exp(-logs / 2)[:, None]), axis=1).reshape(2, 3)
        joint = g[:, None] * own * density
        h_i, h_ij = joint.sum(1) / joint.sum(), joint / joint.sum()
        np.testing.assert_allclose(posterior[t], h_ij.ravel(), atol=1e-14)
        np.testing.assert_allclose(dedges[t, :2], h_i - g, atol=1e-13)
        np.testing.assert_allclose(dedges[t, 2:].reshape(2, 3), h_ij - h_i[:, None] * own, atol=1e-13)
        np.testing.assert_allclose(doutputs[t], (h_ij.ravel() * np.exp(logs))[:, None] * (target[t] - outputs[t]), atol=1e-12)


def test_equal_precisions_are_the_likelihood_of_1991(tokens):
    edges, outputs, target, _ = tokens
    sigma, logits = 0.7, edges[:, :6]
    evidence, _ = losses.gaussian_log_likelihood(outputs, target, np.full(6, -2 * np.log(sigma)))
    new, old = losses.mixture_likelihood(logits, evidence)[0].loss, losses.mixture_nll(logits, outputs, target, sigma=sigma)[0]
    assert new - old == pytest.approx(np.log(2 * np.pi * sigma**2), rel=1e-13)            # C/2 log(2 pi sigma^2) with C = 2


def test_class_labels_are_another_evidence(tokens):
    edges, outputs, _, _ = tokens
    labels, logits = np.array([0, 1, 1, 0, 1]), edges[:, :6]
    evidence = special.log_softmax(outputs, axis=2)[np.arange(5), :, labels]
    want, _ = losses.mixture_nll_classification(logits, outputs, labels)
    assert losses.mixture_likelihood(logits, evidence)[0].loss == pytest.approx(want, rel=1e-13)


def test_one_level_is_the_log_softmax_and_a_tree_is_its_own():
    x = RNG.standard_normal((4, 5))
    flat, _ = gates.tree(x, branching=(5,))
    np.testing.assert_allclose(flat, special.log_softmax(x, axis=1), atol=1e-14)
    np.testing.assert_allclose(gates.tree(flat, branching=(5,))[0], flat, atol=1e-14)


def test_two_levels_are_the_dense_hierarchical_gate():
    x = RNG.standard_normal((4, 8))
    routing, _ = gates.hierarchical(np.tile([0, 1], (4, 1)), softmax(x[:, :2]), x[:, 2:], k=3, groups=2)
    dense = np.zeros((4, 6))
    np.put_along_axis(dense, routing.indices, routing.weights, axis=1)
    np.testing.assert_allclose(np.exp(gates.tree(x, branching=(2, 3))[0]), dense, atol=1e-14)


def test_a_tree_whose_leaves_are_alike_is_the_flat_mixture():
    """Experts doubled below a gate that does not care."""
    top, evidence = RNG.standard_normal((6, 3)), RNG.standard_normal((6, 3))
    leaf, _ = gates.tree(np.hstack([top, np.tile(RNG.standard_normal(6), (6, 1))]), branching=(3, 2))
    tree, flat = losses.mixture_likelihood(leaf, np.repeat(evidence, 2, axis=1))[0], losses.mixture_likelihood(top, evidence)[0]
    assert tree.loss == pytest.approx(flat.loss, rel=1e-13)
    np.testing.assert_allclose(tree.posterior.reshape(6, 3, 2).sum(2), flat.posterior, atol=1e-14)


def test_the_gaussian_gate_is_bayes_rule():
    x, means, logs = RNG.standard_normal((5, 2)), RNG.standard_normal((3, 2)), RNG.standard_normal((3, 2))
    priors = RNG.dirichlet(np.ones(3))
    joint = priors * np.stack([stats.multivariate_normal.pdf(x, m, np.diag(np.exp(-s))) for m, s in zip(means, logs, strict=True)], axis=1)
    logits, _ = gates.gaussian(x, means, logs, np.log(priors))
    np.testing.assert_allclose(softmax(logits), joint / joint.sum(1, keepdims=True), atol=1e-14)


def test_with_one_precision_for_all_the_gaussian_gate_is_linear():
    x, means, logs = RNG.standard_normal((5, 2)), RNG.standard_normal((3, 2)), np.array([0.4, -0.3])
    logits, _ = gates.gaussian(x, means, np.tile(logs, (3, 1)), np.zeros(3))
    linear = x @ (np.exp(logs) * means).T - 0.5 * (np.exp(logs) * means**2).sum(1)
    np.testing.assert_allclose(softmax(logits), softmax(linear), atol=1e-14)


def test_a_far_target_does_not_underflow():
    (loss, posterior), saved = losses.mixture_likelihood(np.zeros((1, 2)), np.array([[-4e5, -1e5]]))
    assert loss == pytest.approx(1e5 + np.log(2))
    np.testing.assert_array_equal(posterior, [[0.0, 1.0]])
    np.testing.assert_allclose(losses.mixture_likelihood_backward(saved, 1.0, None)[1], [[0.0, -1.0]])


@pytest.mark.parametrize("branching", [4, None, "4", (4.0,), [[4]], ((2, 2), (3,)), {2, 3}])
def test_a_tree_of_anything_but_numbers_of_children_is_refused(branching):
    with pytest.raises(ValueError, match=r"^tree: branching=.* must be numbers of children, each at least 1 \(logits has shape \(2, 4\)\)"):
        gates.tree(np.zeros((2, 4)), branching=branching)


def test_a_mixture_of_nobody_is_refused():
    with pytest.raises(ValueError, match=r"^mixture_likelihood: no experts \(logits has shape \(2, 0\)\)"):
        losses.mixture_likelihood(np.zeros((2, 0)), np.zeros((2, 0)))
