"""Inputs of different dtypes in one kernel, which knows two: T of the main one, U of all others."""

from moespec_cupy._kernel import accumulation


def common(main, *others):
    """The dtype that the `others` share, or else one that is wide enough for all; None is not asked."""
    dtypes = {a.dtype for a in others if a is not None}
    return dtypes.pop() if len(dtypes) == 1 else accumulation(main.dtype, *dtypes)
