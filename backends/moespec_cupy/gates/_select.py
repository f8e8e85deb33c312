"""gates.select."""

from moespec.program import Impl
from moespec_cupy._admit import admit
from moespec_cupy._kernel import Kernels, empty, read, rows

KERNELS = Kernels(__file__, "_select.cu")


def forward(scores, bias=None, indices=None, *, k=None, groups=1, keep=1, reduce="top2sum", base="biased", fill=-float("inf")):
    dims = admit("gates.select", scores, bias, indices, k=k, groups=groups, keep=keep, reduce=reduce, base=base, fill=fill)
    if indices is not None:
        return indices.astype("int64"), None
    kept, ids = empty((dims.T, groups), "bool") if keep < groups else None, empty((dims.T, k), "int64")
    KERNELS("select_experts", rows(dims.T), read(scores), read(bias), kept, ids, dims.T, dims.E, k,
            groups, keep, reduce == "top2sum", base == "raw", fill)
    return ids, None


IMPL = Impl(forward)
