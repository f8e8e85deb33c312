"""What mixes all tokens of a group into its slots: grouped products whose groups are those of the tokens."""

from typing import Any, NamedTuple

from moespec_cupy._kernel import read, zeros
from moespec_cupy.dispatch._counting_sort import counting_sort
from moespec_cupy.dispatch._take import take_rows
from moespec_cupy.experts import _products


class Tokens(NamedTuple):
    """The tokens of every group; without a group of their own they stay as they are."""

    order: Any              # T     sorted place -> token, or None
    place: Any              # T     token -> sorted place, or None
    own: _products.Groups

    def sort(self, x):
        return read(x) if self.order is None else take_rows(x, self.order)

    def unsort(self, x):
        return x if self.place is None else take_rows(x, self.place)


def groups_of(group, tokens, groups=1):
    """The tokens of group 0, 1, ...; None is one group."""
    if group is not None:
        found = counting_sort(group, groups)
        return Tokens(found.order, found.place, _products.groups(found.offsets))
    offsets = zeros(2, "int64")
    offsets[1:] = tokens
    return Tokens(None, None, _products.groups(offsets))


def by_group(rows, groups):
    """[G, S, D] of rows s * groups + g."""
    return read(rows.reshape(len(rows) // groups, groups, rows.shape[1]).transpose(1, 0, 2))


def by_slot(slots):
    """The rows s * groups + g of [G, S, D]."""
    groups, each, width = slots.shape
    return read(slots.transpose(1, 0, 2)).reshape(each * groups, width)
