"""Tasks of unequal size: every thread takes the next one from a common counter.

What a task computes does not depend on who takes it, so results repeat bit for bit.
"""

import numpy as np
from numba import types
from numba.extending import intrinsic

from moespec_numba._kernel import zeros

BLOCK = 512             # rows of one task: the products are long enough, and a thread's buffers stay in its cache


def counter():
    """A counter that stands at 0."""
    return zeros(1, "int64")


@intrinsic
def take(typing, counter):
    """The number of the next task, added up atomically."""
    def generate(context, builder, signature, arguments):
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        return builder.atomic_rmw("add", array.data, context.get_constant(types.int64, 1), "monotonic")

    return types.int64(counter), generate


def blocks(starts, stops, block):
    """Tasks (group, first, last + 1): every group's range in the fewest, nearly equal blocks of at most `block`."""
    sizes = stops - starts
    parts = -(-sizes // block)
    if parts.max(initial=0) <= 1:                           # the short way of a few tokens, for which this counts
        group = parts.nonzero()[0]
        return _table(group, starts[group], stops[group])
    step = -(-sizes // np.maximum(parts, 1))
    group = np.repeat(np.arange(len(sizes)), parts)
    nth = np.arange(len(group)) - np.repeat(np.cumsum(parts) - parts, parts)
    first = starts[group] + nth * step[group]
    return _table(group, first, np.minimum(first + step[group], stops[group]))


def _table(*columns):
    table = np.empty((len(columns[0]), len(columns)), np.int64)
    for i, column in enumerate(columns):
        table[:, i] = column
    return table


def largest_first(tasks, costs):
    """The order in which tasks are taken."""
    return tasks[(-costs).argsort(kind="stable")]
