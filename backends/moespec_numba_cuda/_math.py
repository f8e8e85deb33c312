"""Functions of numbers: Python's, which Numba compiles; in the simulator NumPy's, which keep the dtype and do not raise."""

from __future__ import annotations

import math

import numpy as np

from moespec_numba_cuda._device import SIMULATED

if SIMULATED:
    from scipy.special import erf, erfc
    exp, log, log1p, sqrt, tanh, isnan = np.exp, np.log, np.log1p, np.sqrt, np.tanh, np.isnan
else:
    erf, exp, log, log1p, sqrt, tanh, isnan = math.erf, math.exp, math.log, math.log1p, math.sqrt, math.tanh, math.isnan  # type: ignore[assignment]
    erfc = math.erfc

__all__ = ["erf", "erfc", "exp", "isnan", "log", "log1p", "sqrt", "tanh"]
