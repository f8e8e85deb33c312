"""The M step of everything Gaussian: weighted least squares with a ridge, and the variance beside it, in closed form."""

from __future__ import annotations

import numpy as np

STRENGTH = 1.0          # what the floor of a variance counts for, in observations


def ridge_fit(columns, y, weights, ridge, centre=0.0):
    """[P, C]: argmin over W of sum_t weights[t] |y_t - columns_t W|^2 + ridge |W - centre|^2, by QR of the stacked rows."""
    root = np.sqrt(weights)[:, None]
    shrink = np.sqrt(ridge) * np.eye(columns.shape[1])
    rows, wanted = np.vstack([root * columns, shrink]), np.vstack([root * y, shrink @ np.broadcast_to(centre, (columns.shape[1], y.shape[1]))])
    return np.linalg.lstsq(rows, wanted, rcond=None)[0]


def log_precision(errors, count, floor):
    """The maximiser of (count + S)/2 l - exp(l)/2 (errors + S floor), S = STRENGTH: where nothing is left over the variance stops at a floor.

    `errors` is the weighted sum of squares with the ridge's part, `count` the weight; the variance is
    (errors + S floor) / (count + S): the floor where there are no data, and never below S floor / (count + S).
    """
    return np.log((count + STRENGTH) / (errors + STRENGTH * floor))


def penalty(log_precisions, squares, floor):
    """(value, gradient by log_precisions) of the log prior that `ridge_fit` and `log_precision` together maximise.

    .. math:: \\sum \\tfrac{S}{2} \\log \\lambda - \\tfrac{\\lambda}{2} (\\mathrm{squares} + S \\, \\mathrm{floor})

    `squares` is the ridge times the squared distance of the weights from where they are drawn to.
    """
    pull = np.exp(log_precisions) * (squares + STRENGTH * floor)
    return float((STRENGTH * log_precisions - pull).sum() / 2), (STRENGTH - pull) / 2
