"""Balancing without a loss, with updates whose mean is taken off: the biases keep their sum (torchtitan)."""

import numpy as np

from moespec.gates._bias_sign import below_mean, count_errors, loads, require_counts, step
from moespec.numerics import constant, widen
from moespec.op import Arg, Op, Req


def bias_centred(bias, counts, *, rate):
    r"""The update of `bias_sign`, minus its mean over the experts.

    .. math:: \delta_i = u \cdot \mathrm{sign}\Big( \tfrac1E \sum_j n_j - n_i \Big), \qquad b_i \leftarrow b_i + \delta_i - \tfrac1E \sum_j \delta_j

    A common shift of all biases changes no selection, so the choices are those of `bias_sign`; the biases do not drift away.  An
    expert at the mean load moves too, if more experts lie on one side than on the other.

    Parameters
    ----------
    bias, counts, rate
        See `bias_sign`.

    Returns
    -------
    updated : (E,) real
        In the dtype of `bias`.
    None

    Raises
    ------
    ValueError
        A negative count.

    References
    ----------
    torchtitan, components/optimizer.py.
    """
    dims = OP.admit(bias, counts, rate=rate)
    side = below_mean(counts)
    mean = constant(side.sum(), bias) / max(dims.E, 1)
    return (widen(bias) + rate * (side - mean)).astype(bias.dtype), None


# ---- what is checked -------------------------------------------------------------------------------------------------

def cases(rng):
    yield from loads(rng, rate=2.0**-7)
    yield from (c.with_("thousandth", rate=1e-3) for c in loads(rng))


def _like_the_plain_one(run):
    """Differences between experts move as under the plain rule."""
    n = run.inputs["counts"].tolist()
    want = run.attrs["rate"] * np.array([(sum(n) > c * len(n)) - (sum(n) < c * len(n)) for c in n])
    b, moved = np.asarray(run.inputs["bias"], float), step(run)
    if np.isnan(b).any():
        return None
    slack = 4 * (run.unit + 2.0**-24) * (np.abs(b).max() + 1)
    return np.abs((moved - moved[0]) - (want - want[0])) <= slack


REQUIREMENTS = (
    Req("BIAS_CENTRED-1", "The biases keep their sum.",
        lambda r: np.isnan(step(r)).any() or abs(step(r).sum()) <= 4 * r.dims.E * (r.unit + 2.0**-24) * (
            np.abs(np.asarray(r.inputs["bias"], float)).max() + 1)),
    Req("BIAS_CENTRED-2", "Differences between experts move as under the plain sign rule: the selection is the same.", _like_the_plain_one),
    Req("BIAS_CENTRED-3", "Loads 4 2 3 3: one up, one down, two unmoved.",
        lambda r: None if r.case.name != "at_the_mean" else step(r) == np.array([-1, 1, 0, 0]) * r.attrs["rate"]),
)

OP = Op(
    name="gates.bias_centred",
    inputs=(Arg("bias", "E", grad=False), Arg("counts", "E", "count")),
    outputs=(Arg("updated", "E"),),
    forward=bias_centred,
    cases=cases,
    invalid=count_errors("bias_centred", rate=0.5),
    requirements=REQUIREMENTS,
    check=require_counts("bias_centred"),
    flops=lambda E, **_: (5 * E, 0),
    refs=("torchtitan, components/optimizer.py",),
)
