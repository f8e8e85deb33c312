"""The biases of row groups: added to the rows of every expert, and their gradients, summed over these rows."""

from moespec_numba._kernel import empty, kernel, read


def add_bias(out, bias, offsets):
    """Add to every live row the bias of its expert, in place; nothing where `bias` is None."""
    if bias is not None:
        _add(out, bias, offsets)


def bias_gradient(dout, bias, offsets):
    """[E, F]: the rows of every expert added up; None where `bias` is."""
    if bias is None:
        return None
    found = empty(bias.shape, dout.dtype)
    _sums(read(dout), offsets, found)
    return found


@kernel
def _add(out, bias, offsets):
    for e in range(len(bias)):
        for n in range(offsets[e], offsets[e + 1]):
            for j in range(bias.shape[1]):
                out[n, j] += bias[e, j]


@kernel
def _sums(dout, offsets, found):
    for e in range(len(found)):
        found[e] = 0
        for n in range(offsets[e], offsets[e + 1]):
            for j in range(found.shape[1]):
                found[e, j] += dout[n, j]
