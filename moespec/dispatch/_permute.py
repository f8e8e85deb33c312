"""Permute: the rows of every expert, gathered from the tokens."""

from typing import NamedTuple

import numpy as np

from moespec import corpus, indexing
from moespec.dispatch._plan import plan
from moespec.numerics import widen
from moespec.op import Arg, Case, Op, Req


class Saved(NamedTuple):
    token: np.ndarray       # N
    tokens: int
    dtype: np.dtype


def permute(x, token):
    r"""Gather the token of every row; dead rows (token -1) are 0.

    .. math:: \mathrm{rows}_n = x_{\mathrm{token}_n}

    Parameters
    ----------
    x : (T, D) real
        A NaN goes where its token goes, and nowhere else.
    token : (N,) integer
        See `plan`.

    Returns
    -------
    rows : (N, D) real
        In the dtype of `x`; exact.
    Saved
        token, T.

    Raises
    ------
    ValueError
        A token outside -1 .. T-1.
    """
    dims = OP.admit(x, token)
    return indexing.take_rows(x, token), Saved(token, dims.T, x.dtype)


def permute_backward(saved, drows):
    r"""The rows of a token, added up in ascending row order; dead rows add nothing.

    .. math:: \bar x_t = \sum_{n : \mathrm{token}_n = t} \overline{\mathrm{rows}}_n
    """
    return indexing.add_rows(widen(drows), saved.token, saved.tokens).astype(saved.dtype)


# ---- what is checked -------------------------------------------------------------------------------------------------

def planned(rng, make):
    """A case per routing of the corpus, with its plan; `make(token, row, tokens)` gives the inputs."""
    for case in corpus.routings(rng, tokens=6):
        ids = case.inputs["indices"]
        (token, row, _), _ = plan(ids, experts=8)
        yield Case(case.name, make(token, row, len(ids)), {}, case.tags)


def cases(rng):
    yield from planned(rng, lambda token, row, t: {"x": corpus.normal(rng, t, 3), "token": token})
    for case in planned(rng, lambda token, row, t: {"x": corpus.integers(rng, t, 3), "token": token}):
        yield case.add("integers", tags=("exact",))
    x = corpus.normal(rng, 3, 2)
    x[1] = np.nan
    yield Case("nan_token_nobody_reads", {"x": x, "token": np.array([0, 2, 0, -1])}, {}, frozenset({"nan"}))
    yield Case("no_features", {"x": np.zeros((3, 0)), "token": np.array([2, 1])}, {}, frozenset({"empty"}))


INVALID = (
    (Case("token_too_large", {"x": np.zeros((3, 2)), "token": np.array([3])}, {}), ValueError,
     r"permute: token holds 3, outside -1 \.\. 2 \(token has shape \(1,\)\)"),
    (Case("token_below", {"x": np.zeros((3, 2)), "token": np.array([-2])}, {}), ValueError, r"permute: token holds -2"),
)


def _each_row(run):
    x, token = np.asarray(run.inputs["x"], float), run.inputs["token"]
    rows = np.asarray(run.outputs.rows, float)
    return [np.array_equal(rows[n], x[t] if t >= 0 else np.zeros(run.dims.D), equal_nan=True) for n, t in enumerate(token)]


REQUIREMENTS = (
    Req("PERMUTE-1", "Row n is token[n], bit for bit; a dead row is 0.", _each_row),
    Req("PERMUTE-2", "A token without rows gets gradient 0.",
        lambda r: np.isin(np.arange(r.dims.T), r.inputs["token"])[:, None] | (r.grads["x"] == 0)),
)

OP = Op(
    name="dispatch.permute",
    inputs=(Arg("x", "T D"), Arg("token", "N", "index", of="T")),
    outputs=(Arg("rows", "N D"),),
    forward=permute,
    backward=permute_backward,
    cases=cases,
    invalid=INVALID,
    requirements=REQUIREMENTS,
    flops=lambda N, D, **_: (0, N * D),
    refs=("Gale et al. 2023 (MegaBlocks), section 5.1",),
)
