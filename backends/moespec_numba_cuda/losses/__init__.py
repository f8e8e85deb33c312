"""Losses on the device."""

from moespec_numba_cuda.losses import (
    _communication_balance,
    _device_balance,
    _gate_l1,
    _global_balance,
    _heterogeneous_balance,
    _load_balance,
    _pooled_balance,
    _router_entropy,
    _z_loss,
)

OPS = {
    "losses.communication_balance": _communication_balance.IMPL,
    "losses.device_balance": _device_balance.IMPL,
    "losses.gate_l1": _gate_l1.IMPL,
    "losses.global_balance": _global_balance.IMPL,
    "losses.heterogeneous_balance": _heterogeneous_balance.IMPL,
    "losses.load_balance": _load_balance.IMPL,
    "losses.pooled_balance": _pooled_balance.IMPL,
    "losses.router_entropy": _router_entropy.IMPL,
    "losses.z_loss": _z_loss.IMPL,
}
