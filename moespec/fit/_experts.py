"""Experts of a fitted mixture: outputs and evidence by the ops, their gradients by the ops' backward, and an M step."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from moespec import experts, gates, losses
from moespec.fit._data import design
from moespec.fit._irls import irls
from moespec.fit._least_squares import log_precision, penalty, ridge_fit


def linear(x, w, degree):
    """(outputs [T, E, C] of experts w[E, P, C], the function from their gradient to that of w): every expert sees every token."""
    columns, (n, _, width) = design(x, degree), w.shape
    rows, offsets = np.tile(columns, (n, 1)), np.arange(n + 1) * len(x)
    out, saved = experts.linear(rows, offsets, w)

    def pull(d):
        return experts.linear_backward(saved, d.swapaxes(0, 1).reshape(-1, width))[1]
    return out.reshape(n, len(x), width).swapaxes(0, 1), pull


@dataclass(frozen=True)
class GaussianExperts:
    """Polynomials of the inputs (degree 1: linear), each with a variance of its own, which stops at `floor`."""

    n: int
    degree: int
    ridge: float
    floor: float

    def start(self, x, y):
        return {"experts.w": np.zeros((self.n, design(x[:1], self.degree).shape[1], y.shape[1])),
                "experts.log_precisions": np.full(self.n, -np.log(y.var(0).mean() + self.floor))}

    def outputs(self, params, x):
        return linear(x, params["experts.w"], self.degree)

    def mean(self, outputs):
        """What an expert predicts [T, E, C]."""
        return outputs

    def evidence(self, params, outputs, y):
        """(log-likelihoods [T, E], the function from their gradient to (that of the outputs, that of the other parameters))."""
        evidence, saved = losses.gaussian_log_likelihood(outputs, y, params["experts.log_precisions"])

        def pull(d):
            doutputs, dlogs = losses.gaussian_log_likelihood_backward(saved, d)
            return doutputs, {"experts.log_precisions": dlogs}
        return evidence, pull

    def penalty(self, params):
        w, logs = params["experts.w"], params["experts.log_precisions"]
        value, dlogs = penalty(logs, self.ridge * (w * w).sum((1, 2)), self.floor)
        return value, {"experts.w": -self.ridge * np.exp(logs)[:, None, None] * w, "experts.log_precisions": dlogs}

    def maximise(self, params, x, y, posterior):
        """Weighted least squares, weighted by the responsibilities; then the variances."""
        columns, w, logs = design(x, self.degree), params["experts.w"].copy(), np.empty(self.n)
        for i, h in enumerate(posterior.T):
            w[i] = ridge_fit(columns, y, h, self.ridge)
            errors = h @ ((y - columns @ w[i]) ** 2).sum(1) + self.ridge * (w[i] ** 2).sum()
            logs[i] = log_precision(errors, y.shape[1] * h.sum(), self.floor)
        return {"experts.w": w, "experts.log_precisions": logs}


@dataclass(frozen=True)
class MultinomialExperts:
    """Softmax classifiers of polynomials of the inputs; two classes are a Bernoulli."""

    n: int
    classes: int
    degree: int
    ridge: float

    def start(self, x, y):
        return {"experts.w": np.zeros((self.n, design(x[:1], self.degree).shape[1], self.classes))}

    def outputs(self, params, x):
        return linear(x, params["experts.w"], self.degree)

    def mean(self, outputs):
        return gates.softmax(outputs.reshape(-1, self.classes))[0].reshape(outputs.shape)

    def evidence(self, params, outputs, y):
        log_probs, saved = gates.tree(outputs.reshape(-1, self.classes), branching=(self.classes,))
        own = np.broadcast_to(y[:, None, None], (*outputs.shape[:2], 1))

        def pull(d):
            dlog_probs = np.zeros(outputs.shape)
            np.put_along_axis(dlog_probs, own, d[:, :, None], axis=2)
            return gates.tree_backward(saved, dlog_probs.reshape(-1, self.classes)).reshape(outputs.shape), {}
        return np.take_along_axis(log_probs.reshape(outputs.shape), own, axis=2)[:, :, 0], pull

    def penalty(self, params):
        w = params["experts.w"]
        return -self.ridge / 2 * float((w * w).sum()), {"experts.w": -self.ridge * w}

    def maximise(self, params, x, y, posterior):
        """A logit fit to the labels, weighted by the responsibilities."""
        columns, truth = design(x, self.degree), np.eye(self.classes)[y]
        return {"experts.w": np.stack([irls(columns, h[:, None] * truth, w, self.ridge)
                                       for h, w in zip(posterior.T, params["experts.w"], strict=True)])}
