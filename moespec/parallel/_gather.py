"""From this rank's tokens to those of all ranks, for steps that look at the whole batch."""

from typing import NamedTuple

from moespec.op import Arg, Op


class Saved(NamedTuple):
    start: int
    stop: int


def gather(x, *, sizes, label="gather", link):
    r"""The parts of all ranks, in the order of the ranks: an all-gather along the first axis.

    .. math:: y = (x^{(0)}, x^{(1)}, \dots, x^{(R-1)})

    What follows is computed from it by every rank alike, so that every rank has the same cotangent and its own part is its gradient.

    Parameters
    ----------
    x : (T_r, ...) array
    sizes : tuple of int
        T_r of every rank.
    label : str
        Name of the exchange.
    link : Link

    Returns
    -------
    y : (T, ...) array
    Saved

    Raises
    ------
    ValueError
        x has another size than `sizes` says; the ranks disagree (see `Link`).
    """
    require_part("gather", x, sizes, link)
    return link.all_gather(label, x, sizes), Saved(*bounds(sizes, link.rank))


def gather_backward(saved, dy):
    """This rank's part of the cotangent; nothing is exchanged."""
    return dy[saved.start:saved.stop]


def bounds(sizes, rank):
    """Where the part of `rank` begins and ends."""
    start = sum(sizes[:rank])
    return start, start + sizes[rank]


def require_part(name, x, sizes, link):
    """Refuse a part of another size than declared."""
    if len(sizes) != link.size or len(x) != sizes[link.rank]:
        raise ValueError(f"{name}: rank {link.rank} of {link.size} has {len(x)} rows, sizes says {tuple(sizes)} (x has shape {tuple(x.shape)})")


OP = Op(
    name="parallel.gather",
    inputs=(Arg("x", "P ..."),),
    outputs=(Arg("y", "T ..."),),
    forward=gather,
    backward=gather_backward,
)
