"""The M step of every softmax: iteratively reweighted least squares, that is Newton's method, never going down."""

from __future__ import annotations

import numpy as np
from scipy import linalg

from moespec.numerics import logsumexp

HALVINGS = 30
ENOUGH = 1e-13           # of the value: what a step that promises less would change is its rounding


def irls(columns, wanted, w, ridge, *, iterations=5):
    """Improve w[P, B] of the multinomial logit with targets wanted[T, B] (not negative; a row's sum is its weight).

    Maximises sum_tb wanted_tb log softmax(columns w)_tb - ridge/2 |w|^2, which is concave: strictly with a ridge.  A Newton step that
    goes down is halved until it does not, so the result is never worse than the start: a generalised M step.
    """
    value = _value(columns, wanted, w, ridge)
    for _ in range(iterations):
        step, promised = _newton(columns, wanted, w, ridge)
        if promised <= ENOUGH * (1 + abs(value)):
            break
        better = next((found for found in _halved(columns, wanted, w, step, ridge) if found[0] > value), None)
        if better is None:
            break
        value, w = better
    return w


def _value(columns, wanted, w, ridge):
    scores = columns @ w
    return (wanted * (scores - logsumexp(scores, axis=1)[:, None])).sum() - ridge / 2 * (w * w).sum()


def _halved(columns, wanted, w, step, ridge):
    for halvings in range(HALVINGS):
        new = w + step / 2**halvings
        yield _value(columns, wanted, new, ridge), new


def _newton(columns, wanted, w, ridge):
    """(step, what it promises): the step solves (-Hessian) step = gradient; a trace of a ridge is always there, without one it is singular."""
    scores = columns @ w
    gate, weight = np.exp(scores - logsumexp(scores, axis=1)[:, None]), wanted.sum(1)
    slope = columns.T @ (wanted - weight[:, None] * gate) - ridge * w
    terms = ((weight[:, None, None] * _spread(gate))[:, :, :, None] * columns[:, None, None, :]).reshape(len(columns), -1)
    curve = (columns.T @ terms).reshape(*w.shape, *w.shape[::-1]).swapaxes(2, 3).reshape(w.size, w.size)
    curve += (ridge + 1e-10 * (1 + np.trace(curve) / w.size)) * np.eye(w.size)
    step = linalg.solve(curve, slope.ravel(), assume_a="pos")
    return step.reshape(w.shape), float(step @ slope.ravel()) / 2


def _spread(gate):
    """[T, B, B]: diag(g) - g g^T, with g times all the others on the diagonal: 1 - g would lose the digits of a gate that is almost sure."""
    others = ~np.eye(gate.shape[1], dtype=bool)
    between = gate[:, :, None] * gate[:, None, :] * others
    return np.where(others, -between, between.sum(2)[:, :, None])
