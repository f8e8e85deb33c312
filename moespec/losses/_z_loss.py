"""The router z-loss: logits should stay small (Zoph et al. 2022, ST-MoE, eq. 5)."""

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
    lse: np.ndarray         # T
    share: np.ndarray       # T
    mask: np.ndarray        # T, or None
    dtype: np.dtype


def z_loss(logits, mask=None):
    r"""Mean square of the log of the softmax's normaliser.

    .. math:: L = \frac{1}{|V|} \sum_{t \in V} \Big( \log \sum_j \exp l_{tj} \Big)^2

    Unlike the softmax it is not invariant to a shift of the logits: it pins the sum of exponentials near 1.

    Parameters
    ----------
    logits : (T, E) real
        A token whose logits are all -inf gives inf.
    mask : (T,) bool, optional
        True = the token is valid (belongs to V).

    Returns
    -------
    loss : () real
        In the accumulation dtype; 0 if no token is valid.
    Saved
        Softmax, log-sum-exp, shares.

    References
    ----------
    Zoph et al. 2022, eq. 5 (the coefficient, 1e-3 there, is the layer's).
    """
    dims = OP.admit(logits, mask)
    l = widen(logits)
    lse = logsumexp(l, axis=1)
    with np.errstate(invalid="ignore"):
        loss = valid_mean(lse * lse, mask)
    return loss.astype(acc(logits)), Saved(softmax(l, axis=1), lse, valid_share(dims.T, mask, acc(logits)), mask, logits.dtype)


def z_loss_backward(saved, dloss):
    r"""Every logit by its probability.

    .. math:: \bar l_{tj} = \frac{2}{|V|} \, \mathrm{lse}_t \, p_{tj} [t \in V] \, \bar L
    """
    with np.errstate(invalid="ignore"):
        d = 2.0 * dloss * (saved.share * saved.lse)[:, None] * saved.probs
    return (d if saved.mask is None else np.where(saved.mask[:, None], d, 0.0)).astype(saved.dtype)


# ---- what is checked -------------------------------------------------------------------------------------------------

def cases(rng):
    for case in corpus.logits(rng):
        yield case
        yield case.add("masked", mask=np.arange(len(case.inputs["logits"])) % 2 == 0)
    yield Case("none_valid", {"logits": corpus.normal(rng, 3, 4), "mask": np.zeros(3, bool)})


INVALID = (
    (Case("mask_short", {"logits": np.zeros((3, 4)), "mask": np.ones(2, bool)}), ValueError,
     r"z_loss: mask has shape \(2,\), but T must be 3"),
    (Case("one_dimension", {"logits": np.zeros(3)}), ValueError, r"z_loss: logits has shape \(3,\), wanted 2 dimensions"),
)


def _by_hand(run):
    l, mask = np.asarray(run.inputs["logits"], float), run.inputs["mask"]
    rows = l if mask is None else l[mask]
    if not np.isfinite(rows).all():
        return None
    lse = [r.max() + np.log(np.exp(r - r.max()).sum()) for r in rows]
    return near(run, run.outputs.loss, np.mean(np.square(lse)) if len(lse) else 0.0,
                np.mean([(abs(v) + np.abs(r).max() + 1) ** 2 for v, r in zip(lse, rows, strict=True)]) if len(lse) else 1.0)


REQUIREMENTS = (
    Req("Z_LOSS-1", "The loss is the mean over valid tokens of the squared log-sum-exp.", _by_hand),
    Req("Z_LOSS-2", "A token that is not valid gets gradient 0.",
        lambda r: None if r.inputs["mask"] is None else r.inputs["mask"][:, None] | (r.grads["logits"] == 0)),
)

OP = Op(
    name="losses.z_loss",
    inputs=(Arg("logits", "T E"), Arg("mask", "T", "mask", optional=True)),
    outputs=(LOSS,),
    forward=z_loss,
    backward=z_loss_backward,
    cases=cases,
    invalid=INVALID,
    requirements=REQUIREMENTS,
    flops=lambda T, E, **_: (T * (4 * E + 2), T * (2 * E + 2)),
    refs=("Zoph et al. 2022, eq. 5",),
)
