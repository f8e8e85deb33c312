"""The entropy of the router: low where it is sure (Huang et al. 2024, the regulariser of top-p routing)."""

from typing import NamedTuple

import numpy as np

from moespec import corpus
from moespec.losses._checks import near
from moespec.losses._cooperation import LOSS
from moespec.losses._mean import valid_mean, valid_share
from moespec.numerics import acc, logsumexp, softmax, widen
from moespec.op import Arg, Case, Op, Req


class Saved(NamedTuple):
    probs: np.ndarray       # T E
    log_probs: np.ndarray   # T E   0 where the probability is 0
    entropy: np.ndarray     # T
    share: np.ndarray       # T
    mask: np.ndarray        # T, or None
    dtype: np.dtype


def router_entropy(logits, mask=None):
    r"""Mean entropy of the router's distribution.

    .. math:: L = \frac{1}{|V|} \sum_{t \in V} H_t, \qquad H_t = - \sum_i p_{ti} \log p_{ti}, \qquad p_t = \mathrm{softmax}(l_t), \quad 0 \log 0 = 0

    Between 0 and log E, in natural units.  To be made small, with a positive coefficient, it makes the lists of top-p short; as a
    measure it says how sure the router is.  It takes logits: of a probability alone the gradient at 0 would be infinite.

    Parameters
    ----------
    logits : (T, E) real
        -inf has probability 0.
    mask : (T,) bool, optional
        True = the token is valid (belongs to V).

    Returns
    -------
    loss : () real
        In the accumulation dtype; 0 if no token is valid.
    Saved

    References
    ----------
    Huang et al. 2024, section 3 (dynamic loss; the coefficient, 1e-4 there, is the layer's).
    """
    OP.admit(logits, mask)
    l = widen(logits)
    if not l.size:
        return np.zeros((), acc(logits)), Saved(l, l, l.sum(1), valid_share(len(l), mask, acc(logits)), mask, logits.dtype)
    p = softmax(l, axis=1)
    with np.errstate(all="ignore"):
        log_p = np.where(l == -np.inf, 0.0, l - logsumexp(l, axis=1)[:, None])
        entropy = -(p * log_p).sum(1)
    return valid_mean(entropy, mask).astype(acc(logits)), Saved(p, log_p, entropy, valid_share(len(l), mask, acc(logits)), mask, logits.dtype)


def router_entropy_backward(saved, dloss):
    r"""Less probable than average goes up.

    .. math:: \bar l_{ti} = - \frac{1}{|V|} \, p_{ti} \big( \log p_{ti} + H_t \big) [t \in V] \, \bar L
    """
    d = -dloss * saved.share[:, None] * saved.probs * (saved.log_probs + saved.entropy[:, None])
    return (d if saved.mask is None else np.where(saved.mask[:, None], d, 0.0)).astype(saved.dtype)


# ---- what is checked -------------------------------------------------------------------------------------------------

def cases(rng):
    for case in corpus.logits(rng):
        if case.name == "small":                       # nearly flat: differences show rounding alone
            case = case._replace(tags=case.tags | {"steep"})
        yield case
        yield case.add("masked", mask=np.arange(len(case.inputs["logits"])) % 2 == 0)
    yield Case("none_valid", {"logits": corpus.normal(rng, 3, 4), "mask": np.zeros(3, bool)})
    yield Case("half_and_half", {"logits": np.array([[0.0, -np.inf, 0.0, -np.inf]])}, {}, frozenset({"inf"}))


INVALID = (
    (Case("mask_short", {"logits": np.zeros((3, 4)), "mask": np.ones(2, bool)}), ValueError,
     r"^router_entropy: mask has shape \(2,\), but T must be 3"),
    (Case("one_dimension", {"logits": np.zeros(3)}), ValueError, r"^router_entropy: logits has shape \(3,\), wanted 2 dimensions"),
)


def _by_hand(run):
    l, mask = np.asarray(run.inputs["logits"], float), run.inputs["mask"]
    rows = l if mask is None else l[mask]
    if not np.isfinite(rows).all() or np.abs(rows).max(initial=0) > 200:
        return None
    found = []
    for row in rows:
        p = np.exp(row - row.max()) / np.exp(row - row.max()).sum()
        found.append(-sum(x * np.log(x) for x in p if x > 0))
    return near(run, run.outputs.loss, np.mean(found) if found else 0.0, 1 + np.abs(rows).max(initial=0) + run.dims.E)


def _limits(run):
    loss = np.asarray(run.outputs.loss, float)
    slack = 1e-5 * (1 + np.abs(np.nan_to_num(np.asarray(run.inputs["logits"], float), posinf=0, neginf=0)).max(initial=0))
    hand = {"all_equal": np.log(run.dims.E), "half_and_half": np.log(2), "one_expert": 0.0, "none_valid": 0.0}
    value = hand.get(run.case.name)
    return np.isnan(loss) | ((loss >= -slack) & (loss <= np.log(run.dims.E) + slack) & (value is None or abs(loss - value) <= slack))


REQUIREMENTS = (
    Req("ROUTER_ENTROPY-1", "The loss is the mean over valid tokens of -sum p log p.", _by_hand),
    Req("ROUTER_ENTROPY-2", "It lies in 0 .. log E: log E for equal logits, log 2 for two equal and the others -inf, 0 for one expert.", _limits),
    Req("ROUTER_ENTROPY-3", "A token that is not valid gets gradient 0.",
        lambda r: None if r.inputs["mask"] is None else r.inputs["mask"][:, None] | (r.grads["logits"] == 0)),
)

OP = Op(
    name="losses.router_entropy",
    inputs=(Arg("logits", "T E"), Arg("mask", "T", "mask", optional=True)),
    outputs=(LOSS,),
    forward=router_entropy,
    backward=router_entropy_backward,
    cases=cases,
    invalid=INVALID,
    requirements=REQUIREMENTS,
    flops=lambda T, E, **_: (7 * T * E, 4 * T * E),
    refs=("Huang et al. 2024, section 3",),
)
