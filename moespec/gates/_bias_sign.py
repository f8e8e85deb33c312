"""Balancing without a loss: after a step, the selection bias of every expert moves by one fixed amount (Wang et al. 2024)."""

import numpy as np

from moespec import corpus
from moespec.numerics import widen
from moespec.op import Arg, Case, Op, Req


def bias_sign(bias, counts, *, rate):
    r"""Raise the bias of experts below the mean load by `rate`, lower it above.

    .. math:: b_i \leftarrow b_i + u \cdot \mathrm{sign}\Big( \tfrac1E \sum_j n_j - n_i \Big), \qquad \mathrm{sign}(0) = 0

    The comparison is exact, in integers.  The counts are those of the whole global batch, of the choices before any drop, each
    counted once: a forward that is run again for its activations must not count again.  Used in selection only
    (`gates.select`); there is no gradient.

    Parameters
    ----------
    bias : (E,) real
    counts : (E,) integer
    rate : float
        u; 1e-3 in the paper.

    Returns
    -------
    updated : (E,) real
        In the dtype of `bias`; `bias` itself is left alone.
    None

    Raises
    ------
    ValueError
        A negative count.

    References
    ----------
    Wang et al. 2024 (loss-free balancing), algorithm 1; DeepSeek-AI 2024 (V3), section 2.1.2.
    """
    OP.admit(bias, counts, rate=rate)
    return (widen(bias) + rate * below_mean(counts)).astype(bias.dtype), None


def below_mean(counts):
    """-1, 0 or 1 for every expert: the sign of the mean load minus its own.  In float64, so that the rate is not rounded."""
    return np.sign(counts.sum() - len(counts) * counts).astype(np.float64)


def require_counts(name):
    """The check that no count is negative, for the op called `name`."""
    def check(dims, bias, counts, **attrs):
        if counts.size and counts.min() < 0:
            raise ValueError(f"{name}: counts holds {counts.min()}, wanted at least 0 (counts has shape {counts.shape})")
    return check


# ---- what is checked -------------------------------------------------------------------------------------------------

# name, counts: loads that updates have gone wrong on
LOADS = (
    ("uneven", (7, 0, 3, 2)), ("balanced", (5, 5, 5)), ("collapsed", (0, 0, 12, 0)), ("no_tokens", (0, 0, 0)), ("one_expert", (9,)),
    ("at_the_mean", (4, 2, 3, 3)), ("mean_is_no_integer", (1, 1, 0)), ("beyond_float32", (2**24 + 1, 2**24, 2**24 - 1)),
)


def loads(rng, **attrs):
    """A case per load, and one of many experts."""
    for name, counts in LOADS:
        tags = frozenset({"empty"} if name == "no_tokens" else ())
        yield Case(name, {"bias": corpus.dyadic(rng, len(counts), high=1), "counts": np.array(counts)}, attrs, tags)
    yield Case("many", {"bias": corpus.normal(rng, 257), "counts": rng.integers(0, 50, 257)}, attrs)
    yield Case("nan_bias", {"bias": np.array([0.5, np.nan, 0.0]), "counts": np.array([3, 2, 1])}, attrs, frozenset({"nan"}))


def cases(rng):
    for case in loads(rng, rate=2.0**-7):
        yield case._replace(tags=case.tags | ({"exact"} if case.name != "many" else set()))
    yield from (c.with_("thousandth", rate=1e-3) for c in loads(rng))


def count_errors(name, **attrs):
    """The wrong counts that every update of a bias refuses."""
    return (
        (Case("count_negative", {"bias": np.zeros(2), "counts": np.array([1, -1])}, attrs), ValueError,
         rf"^{name}: counts holds -1, wanted at least 0 \(counts has shape \(2,\)\)"),
        (Case("other_experts", {"bias": np.zeros(3), "counts": np.zeros(2, int)}, attrs), ValueError,
         rf"^{name}: counts has shape \(2,\), but E must be 3"),
        (Case("real_counts", {"bias": np.zeros(2), "counts": np.zeros(2)}, attrs), TypeError,
         rf"^{name}: counts has dtype float64, wanted an integer dtype"),
    )


def step(run):
    """float64[E]: how far every bias has moved."""
    return np.asarray(run.outputs.updated, float) - np.asarray(run.inputs["bias"], float)


def _one_step(run):
    """By hand: compare every count with the mean as a fraction."""
    n = [int(c) for c in run.inputs["counts"]]
    want = [run.attrs["rate"] * ((sum(n) > c * len(n)) - (sum(n) < c * len(n))) for c in n]
    b = np.asarray(run.inputs["bias"], float)
    return np.isnan(b) | (np.abs(step(run) - want) <= 2 * (run.unit + 2.0**-24) * (np.abs(b) + 1))


REQUIREMENTS = (
    Req("BIAS_SIGN-1", "A bias moves up by the rate below the mean load, down above it, and not at all at the mean.", _one_step),
    Req("BIAS_SIGN-2", "Even loads, and no tokens at all, change nothing.",
        lambda r: None if np.ptp(r.inputs["counts"]) else (r.outputs.updated == r.inputs["bias"]) | np.isnan(r.inputs["bias"])),
)

OP = Op(
    name="gates.bias_sign",
    inputs=(Arg("bias", "E", grad=False), Arg("counts", "E", "count")),
    outputs=(Arg("updated", "E"),),
    forward=bias_sign,
    cases=cases,
    invalid=count_errors("bias_sign", rate=0.5),
    requirements=REQUIREMENTS,
    check=require_counts("bias_sign"),
    flops=lambda E, **_: (3 * E, 0),
    refs=("Wang et al. 2024 (loss-free balancing), algorithm 1",),
)
