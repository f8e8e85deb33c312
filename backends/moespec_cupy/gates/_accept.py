"""gates.accept, and its rule."""

from moespec.program import Impl
from moespec_cupy._admit import admit
from moespec_cupy._kernel import Kernels, empty, items, read
from moespec_cupy.gates._where_kept import where_kept

KERNELS = Kernels(__file__, "_accept.cu")


def forward(indices, weights, uniform, kept=None, *, rule="gshard", threshold=0.2):
    dims = admit("gates.accept", indices, weights, uniform, kept, rule=rule, threshold=threshold)
    found, passed = empty(indices.shape, "int64"), empty(weights.shape, weights.dtype)
    KERNELS("accept_second", items(dims.T), read(indices, "int64"), read(weights), read(uniform), read(kept, "int64"), found, passed,
            dims.T, *factor(rule, threshold))
    return (found, passed), found


def backward(found, dweights):
    return where_kept(dweights, found)


def factor(rule, threshold):
    """A second share s is kept where s * times / by exceeds the draw."""
    return (2.0, 1.0) if rule == "gshard" else (1.0, threshold)


IMPL = Impl(forward, backward)
