"""The mean over tokens that count: how many there are stays on the device."""

from moespec_cupy._kernel import Kernels, empty, one_block

KERNELS = Kernels(__file__, "_mean.cu")


def valid_mean(values, mask=None):
    """(mean of values[T] over the tokens where mask is True, what each contributes), scalars; values in the accumulation dtype."""
    mean, share = empty((), values.dtype), empty((), values.dtype)
    KERNELS("valid_mean", one_block(), values, mask, mean, share, len(values))
    return mean, share


def total(values):
    """The sum of all values, a scalar of their dtype."""
    result = empty((), values.dtype)
    KERNELS("total", one_block(), values, result, values.size)
    return result
