"""A parameter that every rank has, read by steps that see this rank's tokens only."""

from typing import NamedTuple

from moespec.op import Arg, Op


class Saved(NamedTuple):
    label: str
    link: object


def replicated(x, *, label="replicated", link):
    r"""The array itself.

    Parameters
    ----------
    x : array
        The same on every rank.
    label : str
        Name of the exchange in backward.
    link : Link

    Returns
    -------
    y : array
    Saved
    """
    return x, Saved(label, link)


def replicated_backward(saved, dy):
    r"""The sum over all ranks: an all-reduce in the order of the ranks.

    .. math:: \bar x = \sum_r \bar y^{(r)}
    """
    return saved.link.all_reduce(f"{saved.label} gradient", dy)


OP = Op(
    name="parallel.replicated",
    inputs=(Arg("x", "..."),),
    outputs=(Arg("y", "..."),),
    forward=replicated,
    backward=replicated_backward,
)
