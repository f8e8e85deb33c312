"""Dispatch on the device."""

from moespec_numba_cuda.dispatch import (
    _combine,
    _plan,
)

OPS = {
    "dispatch.plan": _plan.IMPL,
    "dispatch.combine": _combine.IMPL,
}
