"""dispatch.reroute: as many rounds as there are experts, since nobody reads on the host whether somebody is left."""

from __future__ import annotations

from moespec.program import Impl
from moespec_numba_cuda._admit import admit
from moespec_numba_cuda._arrays import convert, full, read, zeros
from moespec_numba_cuda._device import cuda
from moespec_numba_cuda._kernel import items, kernel
from moespec_numba_cuda.dispatch._serving import by_choice, places, served_keys
from moespec_numba_cuda.gates._order import above


def forward(indices, scores, group=None, *, capacity):
    dims = admit("dispatch.reroute", indices, scores, group, capacity=capacity)
    if capacity is None:
        return convert(read(indices), "int64"), None
    asking, kept = zeros(indices.shape, "int64"), full(indices.shape, -1, "int64")
    asked, used, more = zeros((dims.T, dims.E), "bool"), zeros((dims.T, dims.E), "int64"), zeros((dims.T, dims.E), "int64")
    _begin(items(dims.T), read(indices, "int64"), asking, asked)
    served = by_choice(*asking.shape)
    for _ in range(dims.E):
        keys = served_keys(asking, group, dims.E)
        _serve(items(dims.T), keys, places(keys, served, (dims.T + 1) * dims.E), capacity, used, more, asking, kept)
        _add(items(dims.T), more, used)
        _ask_again(items(dims.T), read(scores), asked, asking)
    return kept, None


@kernel("i2 i2 b2")
def _begin(ids, asking, asked):
    experts = asked.shape[1]
    for t in range(cuda.grid(1), ids.shape[0], cuda.gridsize(1)):
        for j in range(ids.shape[1]):
            asking[t, j] = ids[t, j] if 0 <= ids[t, j] < experts else -1
            if asking[t, j] >= 0:
                asked[t, asking[t, j]] = True


@kernel("i2 i2 i i2 i2 i2 i2")
def _serve(keys, place, capacity, used, more, asking, kept):
    """Who comes while there is room gets it; how many did is counted apart, so that everybody sees the same room."""
    experts = used.shape[1]
    for t in range(cuda.grid(1), keys.shape[0], cuda.gridsize(1)):
        for j in range(keys.shape[1]):
            if keys[t, j] >= 0:
                first, e = keys[t, j] // experts, keys[t, j] % experts
                if place[t, j] < capacity - used[first, e]:
                    cuda.atomic.add(more, (first, e), 1)
                    kept[t, j] = e
                    asking[t, j] = -1


@kernel("i2 i2")
def _add(more, used):
    for t in range(cuda.grid(1), used.shape[0], cuda.gridsize(1)):
        for e in range(used.shape[1]):
            used[t, e] += more[t, e]
            more[t, e] = 0


@kernel("T2 b2 i2")
def _ask_again(scores, asked, asking):
    """Whoever was refused turns to the first expert in the normative order that its token has not asked yet; -1 if there is none."""
    for t in range(cuda.grid(1), asking.shape[0], cuda.gridsize(1)):
        for j in range(asking.shape[1]):
            if asking[t, j] >= 0:
                best = -1
                for e in range(scores.shape[1]):
                    if not asked[t, e] and (best < 0 or above(scores[t, e], scores[t, best])):
                        best = e
                if best >= 0:
                    asked[t, best] = True
                asking[t, j] = best


IMPL = Impl(forward)
