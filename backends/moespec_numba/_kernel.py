"""How every kernel here is compiled, and how arrays reach it.

Arrays that a kernel reads arrive through `read`: C-contiguous and read-only, so that each kernel has one signature a dtype.
Arrays that it writes come from `empty` or `zeros`, in Python: tests poison them there.
"""

from __future__ import annotations

import numba
import numpy as np

from moespec.memory import aligned
from moespec.registry import OPS

__all__ = ["BLOCK", "CONTRACT", "OPS", "REORDER", "empty", "kernel", "read", "zeros"]

BLOCK = 64                                    # tokens that a thread takes at a time
CONTRACT = {"contract"}                       # multiply and add in one rounding; nothing is reordered
# Sums in vector lanes; NaN and infinities keep their meaning.  Only for functions that write no array: a loop that also writes is
# compiled in two versions, of which the arrays' addresses choose one, and their sums differ in the last bits.
REORDER = {"reassoc", "contract", "nsz"}


def kernel(function=None, *, parallel=False, fastmath=False, inline="never", entry=True):
    """Compile when first called, keep on disk; a division by zero gives inf or NaN, as in NumPy, and does not block vector code.

    Without `entry` only kernels can call it: what Python would need to do so takes longer to compile than a small function.
    """
    wrappers = {"no_cpython_wrapper": not entry, "no_cfunc_wrapper": True}        # nobody calls one from C
    compile_ = numba.njit(cache=True, error_model="numpy", nogil=True, parallel=parallel, fastmath=fastmath, inline=inline, **wrappers)
    return compile_ if function is None else compile_(function)


def read(array, dtype=None):
    """A C-contiguous, read-only view (a copy only where the layout or the dtype asks for one); None stays None."""
    if array is None:
        return None
    view = np.ascontiguousarray(array, dtype).view()
    view.setflags(write=False)
    return view


allocate = np.empty                           # tests put poison here


def empty(shape, dtype):
    """Memory for a kernel to write every element of."""
    return aligned(shape, dtype, allocate)


def zeros(shape, dtype):
    """Memory that a kernel adds into, or leaves 0 in places."""
    return aligned(shape, dtype, np.zeros)
