"""Tasks of unequal size: every thread takes the next one from a common counter.

What a task computes does not depend on who takes it, so results repeat bit for bit.
"""

import numpy as np
from numba import types
from numba.extending import intrinsic

from moespec_numba._kernel import kernel, zeros

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


@kernel
def list_blocks(offsets, free, tasks):
    """Fill `tasks` with (group, first, last + 1), largest first, and return their number: every group's range in the fewest, nearly
    equal blocks of at most BLOCK.  A counting sort by size, whose buckets are `free`; in one call, since a few tokens wait for it.
    """
    for e in range(len(offsets) - 1):
        step = _step(offsets[e + 1] - offsets[e])
        for first in range(offsets[e], offsets[e + 1], step):
            free[BLOCK - min(step, offsets[e + 1] - first)] += 1
    count = np.int64(0)
    for size in range(BLOCK):
        free[size], count = count, count + free[size]
    for e in range(len(offsets) - 1):
        step = _step(offsets[e + 1] - offsets[e])
        for first in range(offsets[e], offsets[e + 1], step):
            size = min(step, offsets[e + 1] - first)
            at = free[BLOCK - size]
            free[BLOCK - size] = at + 1
            tasks[at, 0], tasks[at, 1], tasks[at, 2] = e, first, first + size
    return count


@kernel(entry=False)
def _step(size):
    """The length of all blocks but the last one."""
    parts = -(-size // BLOCK)
    return -(-size // parts) if parts else np.int64(1)


def blocks(starts, stops, block):
    """Tasks (group, first, last + 1): every group's range in the fewest, nearly equal blocks of at most `block`."""
    sizes = stops - starts
    parts = -(-sizes // block)
    step = -(-sizes // np.maximum(parts, 1))
    group = np.repeat(np.arange(len(sizes)), parts)
    nth = np.arange(len(group)) - np.repeat(np.cumsum(parts) - parts, parts)
    first = starts[group] + nth * step[group]
    return np.column_stack([group, first, np.minimum(first + step[group], stops[group])])


def largest_first(tasks, costs):
    """The order in which tasks are taken."""
    return tasks[(-costs).argsort(kind="stable")]
