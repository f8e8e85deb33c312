"""Device-level balance: groups of experts that live together should get equal work (DeepSeek-V2, eqs 26-28)."""

import numpy as np

from moespec import corpus
from moespec.losses._balance import fractions, invalid_get_none, routed, valid_tokens, weigh_means, weigh_means_backward
from moespec.losses._checks import near
from moespec.losses._cooperation import LOSS
from moespec.numerics import softmax
from moespec.op import Arg, Case, Op, Req


def device_balance(probs, indices, mask=None, *, devices):
    r"""The balance loss with the experts of a device taken together.

    .. math:: L = \sum_{d=1}^{D} f'_d P'_d, \qquad f'_d = \frac{D}{E} \sum_{i \in d} f_i, \qquad P'_d = \sum_{i \in d} P_i, \qquad
              f_i = \frac{E}{|V| K} \#\{(t, j) : t \in V, i_{tj} = i\}

    f' is the mean of the f of a device's experts, P' the sum of their mean probabilities.  1 at perfect balance of the devices,
    whatever goes on inside one; D if one device has everything.  Device d owns the experts d E/D ... (d + 1) E/D - 1.

    Parameters
    ----------
    probs : (T, E) real
    indices : (T, K) integer
        -1 adds to no count.
    mask : (T,) bool, optional
        True = the token is valid (belongs to V).
    devices : int
        D, a divisor of E.

    Returns
    -------
    loss : () real
        In the accumulation dtype; 0 if no token is valid.
    Saved

    Raises
    ------
    ValueError
        D does not divide E; an id outside -1 .. E-1.

    References
    ----------
    DeepSeek-AI 2024 (V2), eqs 26-28; Dai et al. 2024, eqs 15-17.
    """
    dims = OP.admit(probs, indices, mask, devices=devices)
    share = fractions(indices, dims.E, mask).reshape(devices, -1).sum(1)
    return weigh_means(probs, np.repeat(devices * share, dims.E // devices), mask)


def device_balance_backward(saved, dloss):
    r"""The same for all experts of a device.

    .. math:: \bar p_{ti} = \frac{f'_{d(i)}}{|V|} [t \in V] \, \bar L
    """
    return weigh_means_backward(saved, dloss)


def _check(dims, probs, indices, mask, *, devices):
    require_devices("device_balance", devices, dims.E, probs.shape)


def require_devices(name, devices, experts, shape):
    """Refuse a number of devices that does not divide the experts."""
    if devices < 1 or experts % devices:
        raise ValueError(f"{name}: the {experts} experts are no multiple of devices={devices} (probs has shape {tuple(shape)})")


# ---- what is checked -------------------------------------------------------------------------------------------------

def cases(rng):
    for case in routed(rng):
        yield case.with_(devices=4)
    inputs = {"probs": softmax(corpus.normal(rng, 9, 8)), "indices": rng.integers(-1, 8, (9, 3))}
    yield Case("one_device", inputs, {"devices": 1})
    yield Case("an_expert_each", inputs, {"devices": 8})
    uniform = np.full((4, 8), 0.125)
    inside = np.tile(np.array([[0, 2], [4, 6]]), (2, 1))                # one expert of every pair, every device alike
    yield Case("balanced_devices", {"probs": uniform, "indices": inside}, {"devices": 4}, _EXACT)
    yield Case("collapsed", {"probs": np.repeat(np.eye(4)[[1] * 4], 2, axis=1) / 2, "indices": np.array([[2, 3]] * 4)}, {"devices": 4}, _EXACT)


_EXACT = frozenset({"exact"})

INVALID = (
    (Case("devices_do_not_divide", {"probs": np.zeros((2, 8)), "indices": np.zeros((2, 1), int)}, {"devices": 3}), ValueError,
     r"^device_balance: the 8 experts are no multiple of devices=3 \(probs has shape \(2, 8\)\)"),
    (Case("id_too_large", {"probs": np.zeros((2, 4)), "indices": np.full((2, 1), 4)}, {"devices": 2}), ValueError,
     r"^device_balance: indices holds 4, outside -1 \.\. 3"),
)


def _by_hand(run):
    p, ids, e, n_dev = np.asarray(run.inputs["probs"], float), run.inputs["indices"], run.dims.E, run.attrs["devices"]
    valid = valid_tokens(run)
    n, want = max(len(valid), 1), 0.0
    for d in range(n_dev):
        own = range(d * e // n_dev, (d + 1) * e // n_dev)
        f = [e / (n * max(run.dims.K, 1)) * sum(int((ids[t] == i).sum()) for t in valid) for i in own]
        want += sum(f) / len(own) * sum(p[t, i] for t in valid for i in own) / n
    return near(run, run.outputs.loss, want)


REQUIREMENTS = (
    Req("DEVICE_BALANCE-1", "The loss is the sum over devices of mean f times summed P.", _by_hand),
    Req("DEVICE_BALANCE-2", "Balanced devices give 1, whatever their experts; one device with everything gives D.",
        lambda r: {"balanced_devices": r.outputs.loss == 1, "collapsed": r.outputs.loss == 4}.get(r.case.name)),
    Req("DEVICE_BALANCE-3", "A token that is not valid gets gradient 0.", invalid_get_none),
)

OP = Op(
    name="losses.device_balance",
    inputs=(Arg("probs", "T E"), Arg("indices", "T K", "index", of="E"), Arg("mask", "T", "mask", optional=True)),
    outputs=(LOSS,),
    forward=device_balance,
    backward=device_balance_backward,
    cases=cases,
    invalid=INVALID,
    requirements=REQUIREMENTS,
    check=_check,
    flops=lambda T, E, K, **_: (T * K + 2 * T * E + 3 * E, 2 * T * E),
    refs=("DeepSeek-AI 2024 (V2), eqs 26-28",),
)
