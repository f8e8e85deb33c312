"""Row groups: rows offsets[e] : offsets[e+1] belong to expert e; the dead rows after offsets[E] belong to nobody."""

from itertools import pairwise

import numpy as np

from moespec.op import Case


def require_offsets(name, offsets, rows):
    """Refuse offsets that do not ascend from 0 to at most N."""
    bounds, shape = offsets.tolist(), f"(offsets has shape {tuple(offsets.shape)})"
    if len(bounds) < 2:
        raise ValueError(f"{name}: offsets must hold E+1 >= 2 numbers {shape}")
    if bounds[0] != 0:
        raise ValueError(f"{name}: offsets[0]={bounds[0]} must be 0 {shape}")
    for e, (start, stop) in enumerate(pairwise(bounds)):
        if stop < start:
            raise ValueError(f"{name}: offsets[{e + 1}]={stop} is below offsets[{e}]={start} {shape}")
    if bounds[-1] > len(rows):
        limit = f"exceeds the {len(rows)} rows (rows has shape {tuple(rows.shape)})"
        raise ValueError(f"{name}: offsets[{len(bounds) - 1}]={bounds[-1]} {limit}")


def groups(offsets):
    """The slice of rows of every expert."""
    return [slice(start, stop) for start, stop in pairwise(offsets.tolist())]


def nn(x, w, own, b=None):
    """[N, F]: x_n W_e, plus b_e; dead rows are 0."""
    return _joined([x[s] @ w[e] if b is None else x[s] @ w[e] + b[e] for e, s in enumerate(own)], len(x))


def nt(y, w, own):
    """[N, D]: y_n W_e^T; dead rows are 0."""
    return _joined([y[s] @ w[e].T for e, s in enumerate(own)], len(y))


def tn(x, y, own):
    """[E, D, F]: the sum of x_n^T y_n over the rows of every expert."""
    return np.stack([x[s].T @ y[s] for s in own])


def sums(y, own):
    """[E, F]: the sum of y_n over the rows of every expert."""
    return np.stack([y[s].sum(axis=0) for s in own])


def _joined(parts, n):
    dead = n - sum(map(len, parts))
    return np.concatenate([*parts, np.zeros((dead, parts[0].shape[1]), parts[0].dtype)])


# ---- what is checked -------------------------------------------------------------------------------------------------

# name, rows of every expert, dead rows, tags (without a live row everything is exactly 0)
LAYOUTS: tuple[tuple[str, tuple[int, ...], int, frozenset[str]], ...] = (
    ("uneven", (5, 1, 3), 0, frozenset()),
    ("empty_between", (2, 0, 3), 0, frozenset()),
    ("empty_ends", (0, 4, 0), 0, frozenset()),
    ("one_row_each", (1, 1, 1), 0, frozenset()),
    ("all_to_last", (0, 0, 6), 0, frozenset()),
    ("one_expert", (6,), 0, frozenset()),
    ("dead_tail", (2, 0, 3), 3, frozenset()),
    ("all_dead", (0, 0), 4, frozenset({"exact"})),
    ("no_rows", (0, 0), 0, frozenset({"exact", "empty"})),
)


def layout(sizes, dead=0):
    """offsets int64[E+1], and N."""
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    return offsets, int(offsets[-1]) + dead


def offset_errors(name, **inputs):
    """The wrong offsets that every op on row groups refuses; `inputs` are right for 4 rows and 2 experts."""
    def case(what, offsets):
        return Case(what, {**inputs, "offsets": np.array(offsets)})

    shape = r"\(offsets has shape \(3,\)\)"
    return (
        (case("offsets_start", [1, 2, 4]), ValueError, rf"^{name}: offsets\[0\]=1 must be 0 {shape}"),
        (case("offsets_descend", [0, 3, 2]), ValueError, rf"^{name}: offsets\[2\]=2 is below offsets\[1\]=3 {shape}"),
        (case("offsets_beyond", [0, 2, 5]), ValueError,
         rf"^{name}: offsets\[2\]=5 exceeds the 4 rows \(rows has shape \(4, 3\)\)"),
        (case("offsets_short", [0, 4]), ValueError, rf"^{name}: \w+ has shape .*, but E"),
        (case("offsets_real", [0.0, 2.0, 4.0]), TypeError, rf"^{name}: offsets has dtype float64, wanted an integer dtype"),
    )
