"""Tokens of one kind: the ids of the others become -1, so that every kind can have experts of its own."""

import numpy as np

from moespec import corpus
from moespec.op import Arg, Case, Op, Req


def of_kind(indices, kinds, *, other=False):
    r"""Keep the choices of the tokens of one kind.

    .. math:: i'_{tj} = \begin{cases} i_{tj} & \text{if } (\mathrm{kind}_t \ne 0) = \mathrm{other} \\ -1 & \text{else} \end{cases}

    Parameters
    ----------
    indices : (T, K) integer
        -1 = no expert.
    kinds : (T,) integer
        0, or anything else.
    other : bool
        Keep the tokens whose kind is not 0.

    Returns
    -------
    kept : (T, K) int64
    None
        Nothing is saved.

    References
    ----------
    ERNIE 4.5 technical report, section 2.1: text and images have experts of their own.
    """
    OP.admit(indices, kinds, other=other)
    return np.where(((kinds != 0) == other)[:, None], indices, -1).astype(np.int64, copy=False), None


def cases(rng):
    for case in corpus.routings(rng):
        t = len(case.inputs["indices"])
        for other in (False, True):
            yield case.add(kinds=rng.integers(0, 3, t) - 1).with_("other" if other else "zero", other=other)
    ids = np.array([[0, 1], [2, 3], [-1, 1]])
    yield Case("all_zero", {"indices": ids, "kinds": np.zeros(3, int)}, {}, frozenset({"exact"}))
    yield Case("negative_kinds", {"indices": ids, "kinds": np.array([-1, 0, 7])}, {"other": True}, frozenset({"exact"}))


INVALID = (
    (Case("kinds_short", {"indices": np.zeros((3, 1), int), "kinds": np.zeros(2, int)}), ValueError,
     r"of_kind: kinds has shape \(2,\), but T must be 3"),
    (Case("kinds_real", {"indices": np.zeros((3, 1), int), "kinds": np.zeros(3)}), TypeError, r"of_kind: kinds has dtype float64"),
)


def _by_hand(run):
    wanted = [t for t in range(run.dims.T) if bool(run.inputs["kinds"][t]) == run.attrs.get("other", False)]
    return [np.array_equal(row, run.inputs["indices"][t] if t in wanted else np.full(run.dims.K, -1)) for t, row in enumerate(run.outputs.kept)]


def _apart(run):
    """What one kind keeps the other does not."""
    both = run.rerun(other=not run.attrs.get("other", False)).kept
    return (both < 0) | (run.outputs.kept < 0)


REQUIREMENTS = (
    Req("OF_KIND-1", "A token of the kind keeps its ids, another has none.", _by_hand),
    Req("OF_KIND-2", "No choice belongs to both kinds.", _apart),
)

OP = Op(
    name="gates.of_kind",
    inputs=(Arg("indices", "T K", "index"), Arg("kinds", "T", "count")),
    outputs=(Arg("kept", "T K", "index"),),
    forward=of_kind,
    cases=cases,
    invalid=INVALID,
    requirements=REQUIREMENTS,
    flops=lambda T, K, **_: (T * K, 0),
    refs=("ERNIE 4.5 technical report, section 2.1",),
)
