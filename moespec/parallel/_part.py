"""From all tokens to those of this rank."""

from typing import NamedTuple

from moespec.op import Arg, Op
from moespec.parallel._gather import bounds


class Saved(NamedTuple):
    sizes: tuple
    label: str
    link: object


def part(x, *, sizes, label="part", link):
    r"""This rank's part of what every rank has.

    .. math:: y^{(r)} = x_{T_0 + \dots + T_{r-1} \,:\, T_0 + \dots + T_r}

    Parameters
    ----------
    x : (T, ...) array
        The same on every rank.
    sizes : tuple of int
        T_r of every rank.
    label : str
        Name of the exchange in backward.
    link : Link

    Returns
    -------
    y : (T_r, ...) array
    Saved

    Raises
    ------
    ValueError
        x has another size than `sizes` says.
    """
    if len(x) != sum(sizes):
        raise ValueError(f"part: x has shape {tuple(x.shape)}, sizes says {sum(sizes)} rows: {tuple(sizes)}")
    start, stop = bounds(sizes, link.rank)
    return x[start:stop], Saved(tuple(sizes), label, link)


def part_backward(saved, dy):
    """The cotangents of all ranks: an all-gather, so that every rank has the whole one."""
    return saved.link.all_gather(f"{saved.label} gradient", dy, saved.sizes)


OP = Op(
    name="parallel.part",
    inputs=(Arg("x", "T ..."),),
    outputs=(Arg("y", "P ..."),),
    forward=part,
    backward=part_backward,
)
