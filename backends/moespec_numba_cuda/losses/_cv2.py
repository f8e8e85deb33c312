"""The squared coefficient of variation of a float64 vector with an entry per expert, and its gradient."""

from __future__ import annotations

from moespec_numba_cuda._arrays import empty
from moespec_numba_cuda._device import cuda
from moespec_numba_cuda._kernel import items, kernel
from moespec_numba_cuda.losses._mean import cotangent


def cv2(v, dtype):
    """(a scalar: mean((v - m)^2) / m^2, 0 where the mean m is 0; mean and variance, which its gradient needs)."""
    moments, loss = empty(2, "float64"), empty(1, dtype)
    _cv2(items(1), v, moments, loss)
    return loss.reshape(()), moments


def cv2_backward(v, moments, dloss):
    """float64[n]: 2 / (n m^2) (v - m - s^2 / m), with the variance s^2; 0 where the mean is 0."""
    dv = empty(v.shape, "float64")
    _cv2_backward(items(len(v)), v, moments, cotangent(dloss, "float64"), dv)
    return dv


@kernel("d1 d1 T1")
def _cv2(v, moments, loss):
    """By one thread."""
    for i in range(cuda.grid(1), len(loss), cuda.gridsize(1)):
        total, squares = v.dtype.type(0), v.dtype.type(0)
        for e in range(len(v)):
            total += v[e]
        mean = total / max(len(v), 1)
        for e in range(len(v)):
            squares += (v[e] - mean) * (v[e] - mean)
        moments[0], moments[1] = mean, squares / max(len(v), 1)
        loss[i] = 0 if mean * mean == 0 else moments[1] / (mean * mean)


@kernel("d1 d1 d1 d1")
def _cv2_backward(v, moments, dloss, dv):
    for e in range(cuda.grid(1), len(v), cuda.gridsize(1)):
        mean = moments[0]
        dv[e] = 0 if mean * mean == 0 else dloss[0] * (2 / len(v) * (v[e] - mean - moments[1] / mean) / (mean * mean))
