"""The tokens of every group of Soft MoE."""

import numpy as np

from moespec_numba.dispatch._counting_sort import counting_sort


def owners(group, groups):
    """What selects the tokens of group 0, 1, ... in ascending order; a slice where they are neighbours, which then needs no copy."""
    if group is None:
        return [slice(None)]
    found = counting_sort(group[:, None], groups)
    return [_closed(own) for own in np.split(found.source, found.offsets[1:-1])]


def _closed(own):
    return slice(own[0], own[-1] + 1) if len(own) and own[-1] - own[0] + 1 == len(own) else own


def by_group(rows, groups):
    """[S, G, D]: row s * groups + g is slot s of group g."""
    return rows.reshape(len(rows) // groups, groups, rows.shape[1])
