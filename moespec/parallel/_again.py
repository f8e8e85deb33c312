"""A value that was gathered before, read by one more step."""

from moespec.op import Arg, Op
from moespec.parallel._gather import Saved, bounds


def again(x, gathered, *, sizes, link):
    r"""The same as `gather` of x, which is `gathered`: nothing is exchanged.

    Every reader has its own step, so that cotangents are added up in the order in which one process adds them.

    Parameters
    ----------
    x : (T_r, ...) array
    gathered : (T, ...) array
    sizes : tuple of int
    link : Link

    Returns
    -------
    y : (T, ...) array
    Saved
    """
    return gathered, Saved(*bounds(sizes, link.rank))


def again_backward(saved, dy):
    """This rank's part of the cotangent."""
    return dy[saved.start:saved.stop]


OP = Op(
    name="parallel.again",
    inputs=(Arg("x", "P ..."), Arg("gathered", "T ...", grad=False)),
    outputs=(Arg("y", "T ..."),),
    forward=again,
    backward=again_backward,
)
