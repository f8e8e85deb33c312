"""The squared coefficient of variation of a float64 vector with an entry per expert, and its gradient."""

import numpy as np


def cv2(v):
    """mean((v - m)^2) / m^2; 0 where the mean is 0."""
    m = v.mean()
    with np.errstate(invalid="ignore"):
        return np.square(v - m).mean() / (m * m) if m * m != 0 else 0.0


def cv2_backward(v, dloss):
    """2 / (n m^2) (v - m - s^2 / m), with the population variance s^2; 0 where the mean is 0."""
    m = v.mean()
    if m * m == 0:
        return np.zeros(len(v))
    with np.errstate(invalid="ignore"):
        return float(dloss) * (2.0 / len(v) * (v - m - np.square(v - m).mean() / m) / (m * m))
