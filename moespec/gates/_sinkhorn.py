"""Sinkhorn's balanced plan: the smoothed form of balanced assignment (Clark et al. 2022, S-BASE)."""

import numpy as np

from moespec import corpus
from moespec.numerics import logsumexp, widen
from moespec.op import Arg, Case, Op, Req


def sinkhorn(logits, *, iterations=20):
    r"""Scale exp(logits) until rows sum to 1 and columns to T / E.

    .. math:: \pi_{ti} = \exp(l_{ti} + f_t + g_i), \qquad g^0 = 0, \qquad
              f_t = -\log \sum_i \exp(l_{ti} + g_i), \qquad g_i = \log \tfrac{T}{E} - \log \sum_t \exp(l_{ti} + f_t)

    The two updates alternate `iterations` times, f first: columns are exact after every sweep, rows in the limit.  The number of
    sweeps is given and not found by a tolerance, so that it does not depend on rounding.  In logarithms nothing overflows,
    whatever the size of the logits.  Only for selection (`topk` of the plan; a token's order does not depend on f): no gradient;
    weights come from the logits themselves.  For training: the plan depends on the whole batch.

    Parameters
    ----------
    logits : (T, E) real
        Constant under differentiation.  NaN and +inf spread over the plan; -inf gives 0, unless a whole row or column is -inf
        (then NaN spreads: there is no plan).
    iterations : int
        At least 1.

    Returns
    -------
    plan : (T, E) real
        In the dtype of `logits`.
    None

    Raises
    ------
    ValueError
        iterations below 1.

    References
    ----------
    Sinkhorn 1964; Clark et al. 2022 (S-BASE).
    """
    dims = OP.admit(logits, iterations=iterations)
    l = widen(logits)
    if not l.size:
        return l.astype(logits.dtype), None
    g = np.zeros((1, dims.E), l.dtype)
    with np.errstate(all="ignore"):
        for _ in range(iterations):
            f = -logsumexp(l + g, axis=1)[:, None]
            g = float(np.log(dims.T / dims.E)) - logsumexp(l + f, axis=0)[None, :]
        return np.exp(l + f + g).astype(logits.dtype), None


def _check(dims, logits, *, iterations=20):
    if iterations < 1:
        raise ValueError(f"sinkhorn: iterations={iterations} must be at least 1 (logits has shape {tuple(logits.shape)})")


# ---- what is checked -------------------------------------------------------------------------------------------------

def cases(rng):
    yield from corpus.logits(rng)
    yield Case("once", {"logits": corpus.normal(rng, 8, 4)}, {"iterations": 1})
    yield Case("many_sweeps", {"logits": corpus.normal(rng, 12, 4)}, {"iterations": 100})
    yield Case("uniform", {"logits": np.full((8, 4), 0.5)}, {"iterations": 3})
    yield Case("beyond_exp", {"logits": np.array([[100.0, 0.0], [0.0, 100.0]])}, {"iterations": 3})
    yield Case("known_marginals", {"logits": np.log(np.array([[2.0, 1.0], [1.0, 2.0]]))}, {"iterations": 4})


INVALID = (
    (Case("iterations_zero", {"logits": np.zeros((2, 3))}, {"iterations": 0}), ValueError,
     r"^sinkhorn: iterations=0 must be at least 1 \(logits has shape \(2, 3\)\)"),
    (Case("one_dimension", {"logits": np.zeros(3)}), ValueError, r"^sinkhorn: logits has shape \(3,\), wanted 2 dimensions"),
)


def _columns(run):
    plan = np.asarray(run.outputs.plan, float)
    sums = plan.sum(0)
    calm = np.isfinite(sums) & (np.abs(np.nan_to_num(np.asarray(run.inputs["logits"], float), posinf=0, neginf=0)).max(initial=0) < 200)
    want = run.dims.T / run.dims.E
    slack = (run.dims.T + 64) * run.unit + 4e-4 * (run.unit > 2.0**-52)
    return ~calm | (np.abs(sums - want) <= slack * (want + plan.sum(0)) + run.dims.T * 1e-7 * (run.dtype == "float16"))


def _rows(run):
    """After 100 sweeps rows sum to 1 as well, where the logits are moderate."""
    if run.attrs.get("iterations") != 100:
        return None
    return np.abs(np.asarray(run.outputs.plan, float).sum(1) - 1) <= 8 * run.dims.E * run.unit + 1e-5


def _by_hand(run):
    hand = {"uniform": 0.25, "beyond_exp": np.eye(2), "known_marginals": np.array([[2.0, 1.0], [1.0, 2.0]]) / 3}
    if run.case.name not in hand:
        return None
    return np.abs(np.asarray(run.outputs.plan, float) - hand[run.case.name]) <= 4 * run.unit + 2e-5


REQUIREMENTS = (
    Req("SINKHORN-1", "Columns sum to T / E after every sweep.", _columns),
    Req("SINKHORN-2", "Rows sum to 1 in the limit.", _rows),
    Req("SINKHORN-3", "Equal logits give 1 / E; (2 1; 1 2) is a plan times 3; logits of 100 neither overflow nor give NaN.", _by_hand),
    Req("SINKHORN-4", "A constant added to a token's logits changes nothing.",
        lambda r: None if not r.case.name.startswith("known") else
        np.abs(np.asarray(r.rerun(logits=np.asarray(r.inputs["logits"], float) + np.array([[4.0], [-2.0]])).plan, float)
               - np.asarray(r.outputs.plan, float)) <= 32 * r.unit),
)

OP = Op(
    name="gates.sinkhorn",
    inputs=(Arg("logits", "T E", grad=False),),
    outputs=(Arg("plan", "T E"),),
    forward=sinkhorn,
    cases=cases,
    invalid=INVALID,
    requirements=REQUIREMENTS,
    check=_check,
    flops=lambda T, E, iterations=20, **_: (8 * T * E * iterations, 0),
    refs=("Sinkhorn 1964", "Clark et al. 2022 (S-BASE)"),
)
