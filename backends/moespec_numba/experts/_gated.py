"""One row of gated units: h = c f(g) u, and back."""

from moespec_numba._kernel import REORDER, kernel
from moespec_numba.experts._activations import value, value_and_slope


@kernel
def gate(kind, g, u, c, h):
    """h = c f(g) u."""
    value(kind, g, h)
    for j in range(len(g)):
        h[j] = c * (h[j] * u[j])


@kernel(fastmath=REORDER)
def ungate(kind, g, u, c, s, slope, dh, du):
    """From dh, the cotangent of h / c: dh becomes dg, `du` is written; returns <dh, f(g) u>.  `s` and `slope` are scratch."""
    value_and_slope(kind, g, s, slope)
    inner = g.dtype.type(0)
    for j in range(len(g)):
        d = dh[j]
        inner += d * (s[j] * u[j])
        d *= c
        du[j] = d * s[j]
        dh[j] = d * u[j] * slope[j]
    return inner
