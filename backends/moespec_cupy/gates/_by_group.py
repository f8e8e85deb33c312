"""Tokens that belong together: their groups, how many there are stays on the device."""

from typing import Any, NamedTuple

from moespec_cupy._kernel import BLOCK, Grid, Kernels, empty, items, one_block, read, threads
from moespec_cupy.dispatch._counting_sort import sort_entries

KERNELS = Kernels(__file__, "_by_group.cu")


class Groups(NamedTuple):
    """Groups as kernels walk them; without `order` and `starts` all tokens are one, in order."""

    order: Any              # T     tokens, those of a group next to each other in ascending order; -1 at the end for negative ids
    starts: Any             # T+1   members of group g are at order[starts[g]] .. order[starts[g+1]-1]
    most: int               # so many at most; the last ones may be empty

    def blocks(self, each, work):
        """`each` blocks for every group, of the threads that `work` items can use."""
        return Grid(items(self.most * each, 1).blocks, threads(work, BLOCK if self.starts is None else 256))


def by_group(group, tokens):
    """The Groups of ids at least 0, of any size; None is one group."""
    if group is None:
        return Groups(None, None, 1)
    group, starts = read(group, "int64"), empty(tokens + 1, "int64")
    order = sort_entries(group)
    KERNELS("find_groups", one_block(tokens), group, order, starts, tokens)
    return Groups(order, starts, tokens)
