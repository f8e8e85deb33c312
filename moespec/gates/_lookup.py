"""Look the experts of a token up in a table: hash routing (Roller et al. 2021; the first layers of DeepSeek-V4)."""

import numpy as np

from moespec.op import Arg, Case, Op, Req


def lookup(tokens, table):
    r"""Send every token to the experts that a fixed table names for its id.

    .. math:: i_{tj} = \mathrm{table}_{\mathrm{tokens}_t, j}

    The table may be random, balanced over the frequencies of a corpus, or clustered: it is a constant of the model.  Weights, where a
    model has them, are gathered from scores that a router learns as usual.

    Parameters
    ----------
    tokens : (T,) integer
        Ids of the vocabulary; -1 = no expert.
    table : (V, K) integer
        Expert ids; -1 = none.  An id may repeat in a row, and then counts twice.

    Returns
    -------
    indices : (T, K) int64
        A copy.
    None
        Nothing is saved: there is no gradient.

    Raises
    ------
    ValueError
        A token outside -1 .. V-1; an expert id below -1.

    References
    ----------
    Roller et al. 2021, section 3.1.
    """
    dims = OP.admit(tokens, table)
    if not dims.V:
        return np.full((dims.T, dims.K), -1), None
    return np.where((tokens >= 0)[:, None], table[np.maximum(tokens, 0)], -1).astype(np.int64), None


def _check(dims, tokens, table):
    if table.min(initial=0) < -1:
        raise ValueError(f"lookup: table holds {table.min()}, below -1 (table has shape {table.shape})")


# ---- what is checked -------------------------------------------------------------------------------------------------

def cases(rng):
    def case(name, tokens, table, *tags):
        return Case(name, {"tokens": np.asarray(tokens), "table": np.asarray(table)}, {}, frozenset({"exact", *tags}))

    table = rng.integers(0, 8, (50, 2))
    yield case("normal", rng.integers(0, 50, 20), table)
    yield case("first_and_last", [0, 49, 0, 49], table)
    yield case("one_token", [7], table)
    yield case("padding", [3, -1, 3, -1], table)
    yield case("one_choice", rng.integers(0, 50, 9), table[:, :1])
    yield case("some_missing", [0, 1, 2], [[2, -1], [-1, -1], [0, 1]])
    yield case("repeats", [0, 1], [[3, 3], [0, 3]])
    yield case("experts_above_int16", [1, 0], [[70000], [1]])
    yield case("no_tokens", np.zeros(0, int), table, "empty")


_TABLE = np.zeros((5, 2), int)
INVALID = (
    (Case("token_too_large", {"tokens": np.array([5]), "table": _TABLE}), ValueError, r"^lookup: tokens holds 5, outside -1 \.\. 4"),
    (Case("expert_below_none", {"tokens": np.array([1]), "table": _TABLE - 2}), ValueError, r"^lookup: table holds -2, below -1"),
    (Case("real_tokens", {"tokens": np.zeros(2), "table": _TABLE}), TypeError, r"^lookup: tokens has dtype float64, wanted an integer dtype"),
)


def _by_loop(run):
    tokens, table = run.inputs["tokens"].tolist(), run.inputs["table"].tolist()
    return run.outputs.indices.tolist() == [table[v] if v >= 0 else [-1] * run.dims.K for v in tokens]


REQUIREMENTS = (
    Req("LOOKUP-1", "A token gets the row of the table that its id names; -1 gets no expert.", _by_loop),
    Req("LOOKUP-2", "Equal ids get equal experts, wherever they stand.",
        lambda r: np.array_equal(r.rerun(tokens=r.inputs["tokens"][::-1]).indices[::-1], r.outputs.indices)),
    Req("LOOKUP-3", "The tokens in sorted order of the vocabulary give the table back.",
        lambda r: np.array_equal(r.rerun(tokens=np.arange(r.dims.V)).indices, r.inputs["table"])),
)

OP = Op(
    name="gates.lookup",
    inputs=(Arg("tokens", "T", "index", of="V"), Arg("table", "V K", "index", of="E")),
    outputs=(Arg("indices", "T K", "index", of="E"),),
    forward=lookup,
    cases=cases,
    invalid=INVALID,
    requirements=REQUIREMENTS,
    check=_check,
    flops=lambda **_: (0, 0),
    refs=("Roller et al. 2021, section 3.1",),
)
