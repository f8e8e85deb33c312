"""losses.sequence_balance."""

from typing import Any, NamedTuple

from moespec.program import Impl
from moespec_cupy._admit import admit
from moespec_cupy._kernel import Kernels, accumulation, empty, full, items, one_block, read, rows, zeros
from moespec_cupy.dispatch._counting_sort import resort
from moespec_cupy.dispatch._serving import ANY
from moespec_cupy.losses._balance import per_token
from moespec_cupy.losses._mean import total

KERNELS = Kernels(__file__, "_sequence_balance.cu")


class Saved(NamedTuple):
    scores: Any             # T E
    number: Any             # T     the sequence; None is one
    mask: Any               # T
    counts: Any             # G E   G = T where nobody knows how many there are
    sizes: Any              # G
    live: Any               # ()


def forward(scores, indices, group=None, mask=None, *, normalize=True, normalizer="assignments"):
    dims = admit("losses.sequence_balance", scores, indices, group, mask, normalize=normalize, normalizer=normalizer)
    number, groups = _numbered(read(group, "int64")), 1 if group is None else dims.T
    counts, sizes, live = zeros((groups, dims.E), "int64"), zeros(groups, "int64"), empty((), "int64")
    saved = Saved(read(scores), number, read(mask), counts, sizes, live)
    KERNELS("count_sequences", items(dims.T), read(indices, "int64"), number, saved.mask, counts, sizes, dims.T, dims.K, dims.E)
    KERNELS("count_live", one_block(), sizes, live, groups)
    terms, how = empty(dims.T, accumulation(scores.dtype)), (per_token(dims.K, normalizer), normalize)
    KERNELS("sequence_terms", rows(dims.T), *saved, terms, dims.T, dims.E, *how)
    return total(terms), (saved, how)


def backward(saved, dloss):
    arrays, how = saved
    dscores = empty(arrays.scores.shape, arrays.scores.dtype)
    KERNELS("sequence_backward", rows(len(dscores)), *arrays, read(dloss), dscores, *dscores.shape, *how)
    return dscores


def _numbered(group):
    if group is None:
        return None
    number = full(group.shape, -1, "int64")
    KERNELS("number_groups", one_block(), group, resort(group, None, ANY), number, group.size)
    return number


IMPL = Impl(forward, backward)
