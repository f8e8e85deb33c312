"""gates.relu_route."""

from moespec.program import Impl
from moespec_numba._kernel import OPS, empty, kernel, read
from moespec_numba.gates._best_tokens import given_columns


def forward(logits, indices=None):
    OPS["gates.relu_route"].admit(logits, indices)
    ids = empty(logits.shape, "int64") if indices is None else given_columns(indices)
    weights = empty(logits.shape, logits.dtype)
    _forward(read(logits), indices is not None, ids, weights)
    return (ids, weights), read(weights)


def backward(weights, dweights):
    dlogits = empty(weights.shape, weights.dtype)
    _backward(weights, read(dweights), dlogits)
    return dlogits


@kernel
def _forward(logits, given, ids, weights):
    for t in range(len(logits)):
        for e in range(logits.shape[1]):
            off = logits[t, e] <= 0                                    # a NaN is on
            if not given:
                ids[t, e] = -1 if off else e
            weights[t, e] = 0 if off or ids[t, e] < 0 else logits[t, e]


@kernel
def _backward(weights, dweights, dlogits):
    for t in range(len(weights)):
        for e in range(weights.shape[1]):
            dlogits[t, e] = 0 if weights[t, e] == 0 else dweights[t, e]


IMPL = Impl(forward, backward)
