"""Losses on the device."""

from moespec_numba_cuda.losses import (
    _router_entropy,
    _z_loss,
)

OPS = {
    "losses.router_entropy": _router_entropy.IMPL,
    "losses.z_loss": _z_loss.IMPL,
}
