"""Losses on CuPy: one file per op, as in the reference."""

from moespec_cupy.losses import (
    _communication_balance,
    _device_balance,
    _gate_l1,
    _global_balance,
    _heterogeneous_balance,
    _hierarchical_load_cv2,
    _importance_cv2,
    _load,
    _load_balance,
    _load_cv2,
    _pooled_balance,
    _router_entropy,
    _z_loss,
)

OPS = {f"losses.{name}": module.IMPL for name, module in {
    "communication_balance": _communication_balance,
    "device_balance": _device_balance,
    "gate_l1": _gate_l1,
    "global_balance": _global_balance,
    "heterogeneous_balance": _heterogeneous_balance,
    "hierarchical_load_cv2": _hierarchical_load_cv2,
    "importance_cv2": _importance_cv2,
    "load": _load,
    "load_balance": _load_balance,
    "load_cv2": _load_cv2,
    "pooled_balance": _pooled_balance,
    "router_entropy": _router_entropy,
    "z_loss": _z_loss,
}.items()}
