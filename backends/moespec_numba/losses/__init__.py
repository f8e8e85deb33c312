"""Losses on Numba: one file per op, as in the reference."""

from moespec_numba.losses import (
    _batchwise_threshold,
    _cooperation,
    _hierarchical_load_cv2,
    _importance_cv2,
    _load,
    _load_balance,
    _load_cv2,
    _mixture_nll,
    _mixture_nll_classification,
    _specialisation,
    _z_loss,
)

OPS = {f"losses.{name}": module.IMPL for name, module in {
    "batchwise_threshold": _batchwise_threshold,
    "cooperation": _cooperation,
    "hierarchical_load_cv2": _hierarchical_load_cv2,
    "importance_cv2": _importance_cv2,
    "load": _load,
    "load_balance": _load_balance,
    "load_cv2": _load_cv2,
    "mixture_nll": _mixture_nll,
    "mixture_nll_classification": _mixture_nll_classification,
    "specialisation": _specialisation,
    "z_loss": _z_loss,
}.items()}
