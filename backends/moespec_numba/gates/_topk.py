"""gates.topk."""

from numba import prange

from moespec.program import Impl
from moespec_numba._kernel import OPS, empty, kernel, read
from moespec_numba.gates._order import choose


def forward(scores, indices=None, *, k=None):
    OPS["gates.topk"].admit(scores, indices, k=k)
    if indices is not None:
        return indices.astype("int64"), None
    ids = empty((len(scores), k), "int64")
    _topk(read(scores), ids)
    return ids, None


@kernel(parallel=True)
def _topk(scores, ids):
    for t in prange(len(scores)):
        choose(scores[t], ids[t])


IMPL = Impl(forward)
