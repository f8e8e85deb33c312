"""Communication balance: every device should receive equally many tokens (DeepSeek-V2, eqs 29-31)."""

import numpy as np

from moespec import corpus
from moespec.losses._balance import invalid_get_none, routed, valid_tokens, weigh_means, weigh_means_backward
from moespec.losses._checks import near
from moespec.losses._cooperation import LOSS
from moespec.losses._device_balance import require_devices
from moespec.losses._mean import valid_count
from moespec.numerics import softmax
from moespec.op import Arg, Case, Op, Req


def communication_balance(probs, indices, mask=None, *, devices, limit):
    r"""Balance of what is sent: a token counts once for a device, however many of its experts it chose.

    .. math:: L = \sum_{d=1}^{D} f''_d P''_d, \qquad f''_d = \frac{D}{M |V|} \#\{t \in V : t \text{ is sent to } d\}, \qquad
              P''_d = \sum_{i \in d} P_i

    M is the number of devices that a token may be sent to (the router's device limit).  1 if every token goes to M devices and all
    devices get equally many.  Device d owns the experts d E/D ... (d + 1) E/D - 1.

    Parameters
    ----------
    probs : (T, E) real
    indices : (T, K) integer
        -1 is sent nowhere.
    mask : (T,) bool, optional
        True = the token is valid (belongs to V).
    devices : int
        D, a divisor of E.
    limit : int
        M, 1 .. D.

    Returns
    -------
    loss : () real
        In the accumulation dtype; 0 if no token is valid.
    Saved

    Raises
    ------
    ValueError
        D does not divide E; limit outside 1 .. D; an id outside -1 .. E-1.

    References
    ----------
    DeepSeek-AI 2024 (V2), eqs 29-31.
    """
    dims = OP.admit(probs, indices, mask, devices=devices, limit=limit)
    device = np.where(indices >= 0, indices // (dims.E // devices), -1)
    sent = (device[:, :, None] == np.arange(devices)).any(1)
    received = (sent if mask is None else sent & mask[:, None]).sum(0)
    f = devices * received / (limit * max(valid_count(dims.T, mask), 1))
    return weigh_means(probs, np.repeat(f, dims.E // devices), mask)


def communication_balance_backward(saved, dloss):
    r"""The same for all experts of a device.

    .. math:: \bar p_{ti} = \frac{f''_{d(i)}}{|V|} [t \in V] \, \bar L
    """
    return weigh_means_backward(saved, dloss)


def _check(dims, probs, indices, mask, *, devices, limit):
    require_devices("communication_balance", devices, dims.E, probs.shape)
    if not 1 <= limit <= devices:
        raise ValueError(f"communication_balance: limit={limit} must be in 1 .. devices={devices} (probs has shape {tuple(probs.shape)})")


# ---- what is checked -------------------------------------------------------------------------------------------------

def cases(rng):
    for case in routed(rng):
        yield case.with_(devices=4, limit=2)
    inputs = {"probs": softmax(corpus.normal(rng, 9, 8)), "indices": rng.integers(-1, 8, (9, 3))}
    yield Case("one_device", inputs, {"devices": 1, "limit": 1})
    yield Case("an_expert_each", inputs, {"devices": 8, "limit": 3})
    uniform = np.full((4, 8), 0.125)
    pairs = np.array([[0, 2], [4, 6], [1, 3], [5, 7]])
    yield Case("balanced", {"probs": uniform, "indices": pairs}, {"devices": 4, "limit": 2}, _EXACT)
    yield Case("two_experts_of_a_device", {"probs": uniform, "indices": np.arange(8).reshape(4, 2)}, {"devices": 4, "limit": 2}, _EXACT)


_EXACT = frozenset({"exact"})

INVALID = (
    (Case("devices_do_not_divide", {"probs": np.zeros((2, 8)), "indices": np.zeros((2, 1), int)}, {"devices": 3, "limit": 1}), ValueError,
     r"^communication_balance: the 8 experts are no multiple of devices=3 \(probs has shape \(2, 8\)\)"),
    (Case("limit_above_devices", {"probs": np.zeros((2, 8)), "indices": np.zeros((2, 1), int)}, {"devices": 4, "limit": 5}), ValueError,
     r"^communication_balance: limit=5 must be in 1 \.\. devices=4"),
)


def _by_hand(run):
    p, ids, size = np.asarray(run.inputs["probs"], float), run.inputs["indices"], run.dims.E // run.attrs["devices"]
    valid = valid_tokens(run)
    n, want = max(len(valid), 1), 0.0
    for d in range(run.attrs["devices"]):
        sent = sum(any(i >= 0 and i // size == d for i in ids[t].tolist()) for t in valid)
        mean = sum(p[t, i] for t in valid for i in range(d * size, (d + 1) * size)) / n
        want += run.attrs["devices"] * sent / (run.attrs["limit"] * n) * mean
    return near(run, run.outputs.loss, want)


REQUIREMENTS = (
    Req("COMMUNICATION_BALANCE-1", "The loss is the sum over devices of the share of tokens received times summed P.", _by_hand),
    Req("COMMUNICATION_BALANCE-2", "1 if all tokens go to M devices evenly; half of it where both experts of a token live together.",
        lambda r: {"balanced": r.outputs.loss == 1, "two_experts_of_a_device": r.outputs.loss == 0.5}.get(r.case.name)),
    Req("COMMUNICATION_BALANCE-3", "A token that is not valid gets gradient 0.", invalid_get_none),
)

OP = Op(
    name="losses.communication_balance",
    inputs=(Arg("probs", "T E"), Arg("indices", "T K", "index", of="E"), Arg("mask", "T", "mask", optional=True)),
    outputs=(LOSS,),
    forward=communication_balance,
    backward=communication_balance_backward,
    cases=cases,
    invalid=INVALID,
    requirements=REQUIREMENTS,
    check=_check,
    flops=lambda T, E, K, **_: (T * K + 2 * T * E + 3 * E, 2 * T * E),
    refs=("DeepSeek-AI 2024 (V2), eqs 29-31",),
)
