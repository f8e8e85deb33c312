"""In which order assignments are served, and which place each gets."""

from moespec_cupy._kernel import Kernels, empty, full, items, read
from moespec_cupy.dispatch._counting_sort import resort

KERNELS = Kernels(__file__, "_serving.cu")
ANY = (1 << 63) - 1           # groups are numbered as the caller likes


def places(ids, served, experts, capacity, group=None):
    """[T, K]: the place of every assignment at its expert (and group), entries `served` in turn; -1 from `capacity` on or without an id."""
    place, order, keys = full(ids.shape, -1, "int64"), resort(ids, served, experts), group_keys(group, ids)
    if keys is not None:
        order = resort(keys, order, ANY)
    KERNELS("give_places", items(ids.size), ids, keys, order, place, ids.size, capacity)
    return place


def group_keys(group, ids):
    """[T, K]: the group of every assignment; None is one group."""
    if group is None:
        return None
    keys = empty(ids.shape, "int64")
    KERNELS("spread", items(ids.size), read(group, "int64"), keys, ids.size, max(ids.shape[1], 1))
    return keys


def choice_major(shape, served=None):
    """Entries: the first choices of all tokens, `served` in turn, then the second ones ..."""
    entries = empty(shape[0] * shape[1], "int64")
    KERNELS("choice_major", items(entries.size), served, entries, *shape)
    return entries


def sequence(ids, order, priority=None, noise=None):
    """Entries in the order in which they are served; None is as they are."""
    if order == "token":
        return None
    if order == "score":
        return descending(priority)
    if order == "batch":
        return choice_major(ids.shape, _sorted(_keys("best_keys", priority, len(ids), ids), priority.dtype))
    if order == "random":
        return choice_major(ids.shape, _sorted(_keys("value_keys", noise, noise.size), noise.dtype, descending=False))
    return choice_major(ids.shape)


def descending(values):
    """Flat positions in the normative order."""
    return _sorted(_keys("value_keys", values, values.size), values.dtype)


def _keys(kernel, values, count, ids=None):
    keys = empty(count, "int64")
    KERNELS(kernel, items(count), read(values), *((keys, count) if ids is None else (ids, keys, *ids.shape)))
    return keys


def _sorted(keys, dtype, descending=True):
    """Positions by key, equal keys as they are."""
    order, wide = None, dtype.itemsize == 8
    for shift in (0, 32) if wide else (0,):
        words = empty(keys.shape, "int64")
        KERNELS("key_words", items(keys.size), keys, words, keys.size, shift, wide, descending)
        order = resort(words, order, 1 << 32)
    return order
