"""Threads belong to Numba: BLAS, called from every one of them, gets one thread each."""

from contextlib import contextmanager
from functools import cache
from threading import Lock
from typing import Any

import numba
from threadpoolctl import ThreadpoolController


@cache
def _controller():
    """The BLAS libraries of this process: found once, since looking for them takes a millisecond."""
    import scipy.linalg.cython_blas  # noqa: F401  (what kernels call must be loaded to be found)
    return ThreadpoolController()


class _Users:
    """Who is inside `one_blas_thread`: the first one in limits, the last one out restores."""

    lock = Lock()
    inside = 0
    limit: Any = None


@contextmanager
def one_blas_thread(called=True):
    """Limit BLAS to one thread, and yield how many threads Numba may use; what the caller had set comes back, after errors too.

    The limit holds for the whole process; calls may nest and overlap in several Python threads.  Where BLAS will not be `called`
    it is left alone: setting it takes 50 us, as long as all else around one token.
    """
    if not called:
        yield numba.get_num_threads()
        return
    with _Users.lock:
        if _Users.inside == 0:
            _Users.limit = _controller().limit(limits=1, user_api="blas")
        _Users.inside += 1
    try:
        yield numba.get_num_threads()
    finally:
        with _Users.lock:
            _Users.inside -= 1
            if _Users.inside == 0:
                _Users.limit.restore_original_limits()
