"""Balance between experts of different cost (Jin et al. 2024, MoE++)."""

import numpy as np

from moespec import corpus
from moespec.losses._balance import fractions, invalid_get_none, routed, valid_tokens, weigh_means, weigh_means_backward
from moespec.losses._checks import near
from moespec.losses._cooperation import LOSS
from moespec.numerics import softmax
from moespec.op import Arg, Case, Op, Req


def heterogeneous_balance(probs, indices, mask=None, *, ffn_experts, tau):
    r"""The balance loss with a smaller weight on experts that cost nothing.

    .. math:: L = \sum_i \eta_i f_i P_i, \qquad \eta_i = \begin{cases} 1 & i < N \\ \tau & i \ge N \end{cases}, \qquad
              f_i = \frac{1}{|V|} \#\{(t, j) : t \in V, i_{tj} = i\}

    The first N experts are real ones, the others zero, copy or constant experts.  The smaller tau, the more tokens may go to
    these.  As printed there is no factor E and no division by K: with tau = 1 the loss is K / E at perfect balance, which is
    `load_balance` times K / E.

    Parameters
    ----------
    probs : (T, E) real
    indices : (T, K) integer
        -1 adds to no count.
    mask : (T,) bool, optional
        True = the token is valid (belongs to V).
    ffn_experts : int
        N, 0 .. E.
    tau : float
        0 or more.

    Returns
    -------
    loss : () real
        In the accumulation dtype; 0 if no token is valid.
    Saved

    Raises
    ------
    ValueError
        N outside 0 .. E; a negative tau; an id outside -1 .. E-1.

    References
    ----------
    Jin et al. 2024 (MoE++), section 3.
    """
    dims = OP.admit(probs, indices, mask, ffn_experts=ffn_experts, tau=tau)
    eta = np.where(np.arange(dims.E) < ffn_experts, 1.0, tau)
    return weigh_means(probs, eta * fractions(indices, dims.E, mask, "tokens"), mask)


def heterogeneous_balance_backward(saved, dloss):
    r"""Through P alone.

    .. math:: \bar p_{ti} = \frac{\eta_i f_i}{|V|} [t \in V] \, \bar L
    """
    return weigh_means_backward(saved, dloss)


def _check(dims, probs, indices, mask, *, ffn_experts, tau):
    if not 0 <= ffn_experts <= dims.E:
        raise ValueError(f"heterogeneous_balance: ffn_experts={ffn_experts} must be in 0 .. {dims.E} (probs has shape {tuple(probs.shape)})")
    if not tau >= 0:
        raise ValueError(f"heterogeneous_balance: tau={tau} must be at least 0 (probs has shape {tuple(probs.shape)})")


# ---- what is checked -------------------------------------------------------------------------------------------------

def cases(rng):
    for case in routed(rng):
        yield case.with_(ffn_experts=5, tau=0.75)
    inputs = {"probs": softmax(corpus.normal(rng, 9, 8)), "indices": rng.integers(-1, 8, (9, 3))}
    yield Case("all_real", inputs, {"ffn_experts": 8, "tau": 0.25})
    yield Case("none_real", inputs, {"ffn_experts": 0, "tau": 0.25})
    yield Case("free_ones_are_free", inputs, {"ffn_experts": 6, "tau": 0.0})
    uniform = {"probs": np.full((8, 4), 0.25), "indices": np.arange(16).reshape(8, 2) % 4}
    yield Case("balanced", uniform, {"ffn_experts": 2, "tau": 1.0}, frozenset({"exact"}))
    yield Case("balanced_half_price", uniform, {"ffn_experts": 2, "tau": 0.5}, frozenset({"exact"}))


INVALID = (
    (Case("ffn_above_all", {"probs": np.zeros((2, 4)), "indices": np.zeros((2, 1), int)}, {"ffn_experts": 5, "tau": 1.0}), ValueError,
     r"^heterogeneous_balance: ffn_experts=5 must be in 0 \.\. 4 \(probs has shape \(2, 4\)\)"),
    (Case("tau_negative", {"probs": np.zeros((2, 4)), "indices": np.zeros((2, 1), int)}, {"ffn_experts": 2, "tau": -0.5}), ValueError,
     r"^heterogeneous_balance: tau=-0.5 must be at least 0"),
)


def _by_hand(run):
    p, ids = np.asarray(run.inputs["probs"], float), run.inputs["indices"]
    valid = valid_tokens(run)
    n, want = max(len(valid), 1), 0.0
    for i in range(run.dims.E):
        eta = 1 if i < run.attrs["ffn_experts"] else run.attrs["tau"]
        want += eta * sum(int((ids[t] == i).sum()) for t in valid) / n * sum(p[t, i] for t in valid) / n
    return near(run, run.outputs.loss, want)


REQUIREMENTS = (
    Req("HETEROGENEOUS_BALANCE-1", "The loss is the sum of eta times share of tokens times mean probability.", _by_hand),
    Req("HETEROGENEOUS_BALANCE-2", "K / E at perfect balance with tau 1; free experts at half price make that three quarters of it here.",
        lambda r: {"balanced": r.outputs.loss == 0.5, "balanced_half_price": r.outputs.loss == 0.375}.get(r.case.name)),
    Req("HETEROGENEOUS_BALANCE-3", "A token that is not valid gets gradient 0.", invalid_get_none),
)

OP = Op(
    name="losses.heterogeneous_balance",
    inputs=(Arg("probs", "T E"), Arg("indices", "T K", "index", of="E"), Arg("mask", "T", "mask", optional=True)),
    outputs=(LOSS,),
    forward=heterogeneous_balance,
    backward=heterogeneous_balance_backward,
    cases=cases,
    invalid=INVALID,
    requirements=REQUIREMENTS,
    check=_check,
    flops=lambda T, E, K, **_: (T * K + 2 * T * E + 3 * E, 2 * T * E),
    refs=("Jin et al. 2024 (MoE++), section 3",),
)
