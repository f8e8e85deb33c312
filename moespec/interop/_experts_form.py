"""What an experts module of transformers computes, as an op and its attributes: recognised by values and slopes, never guessed."""

from __future__ import annotations

import math
from itertools import product
from weakref import WeakKeyDictionary

import numpy as np
import torch

from moespec.experts import ACTIVATIONS
from moespec.registry import OPS

FLAGS = ("has_gate", "has_bias", "has_post_expert_norm", "is_transposed", "is_concatenated", "num_experts")
POINTS = np.array([1e-2, 0.1, 0.3, 0.7, 1.05, 1.5, 2.2, 3.1, 4.5, 6.2, 8.3, 11.0, 23.0, 51.0, 203.0, 1e3, 1e6])
GRID = np.concatenate([-POINTS[::-1], POINTS])
PAIRS = np.array(list(product(GRID, GRID)))         # g, u
QUICK_GELU = 1.702
WORDS = ("limit", "alpha", "softcap")                # what the numbers of a gate are called
_known: WeakKeyDictionary[torch.nn.Module, tuple[tuple, tuple[str, dict]]] = WeakKeyDictionary()


def form_of(module) -> tuple[str, dict]:
    """The op that computes the experts of `module`, with its attributes.

    Raises
    ------
    NotImplementedError
        No op does; the message names the class and the reason.
    """
    state = _state(module)
    if module not in _known or _known[module][0] != state:
        _known[module] = state, _recognise(module)
    return _known[module][1]


def _state(module):
    """What would make the module another one if it were exchanged."""
    gate = getattr(module, "_apply_gate", None)
    flags = tuple(getattr(module, flag, None) for flag in FLAGS)
    return getattr(module, "act_fn", None), getattr(gate, "__func__", gate), flags, *(tuple(_numbers(module, w)) for w in WORDS)


def _recognise(module):
    missing = [flag for flag in FLAGS if not hasattr(module, flag)]
    if missing:
        _refuse(module, f"it has no {', '.join(missing)}: is it decorated with use_experts_implementation?")
    if module.has_post_expert_norm and not isinstance(getattr(module, "post_expert_norm", None), torch.nn.Module):
        _refuse(module, "has_post_expert_norm is set, but there is no module post_expert_norm")
    act = getattr(module, "act_fn", None)
    if isinstance(act, torch.nn.Module) and any(True for _ in act.parameters()):
        _refuse(module, f"its activation {type(act).__name__} has parameters")
    if not module.has_gate:
        found = _first(_values(act), ({"activation": a} for a in ACTIVATIONS))
        return ("experts.ffn", found) if found else _refuse(module, f"its activation {_named(act)} is none of {', '.join(ACTIVATIONS)}")
    found = _first(_gate_values(module), _gatings(module))
    if not found:
        _refuse(module, f"its gate is no form of experts.glu (activation {_named(act)}, {_told(module)})")
    return "experts.glu" if module.has_post_expert_norm else "experts.moe", found


def _refuse(module, reason):
    raise NotImplementedError(f"{type(module).__name__}: moespec cannot represent these experts: {reason}; use another experts implementation")


def _first(got, candidates):
    """The first candidate with the values and slopes that theirs has."""
    pairs = PAIRS if len(got) == 3 else GRID[:, None]
    size = np.prod(1 + np.abs(pairs), axis=1)                       # some modules compute in float32: so fine is told apart
    for attrs in candidates:
        ours = _op_values(pairs, attrs)
        if all(np.all(np.abs(a - b) <= 1e-5 * np.abs(b) + 1e-6 * size) for a, b in zip(got, ours, strict=True)):
            return attrs
    return None


def _op_values(pairs, attrs):
    """h, and its slopes in g (and u), from the op: one expert of one hidden unit, of which every row is one pre-activation."""
    op = OPS["experts.glu" if pairs.shape[1] == 2 else "experts.ffn"]
    unit = np.eye(pairs.shape[1])                                   # its columns pick g, and u; h goes to the first column
    out, saved = op.forward(pairs, np.array([0, len(pairs)]), *unit.T[:, None, :, None], unit[None, :1], **attrs)
    cotangent = np.zeros_like(out)
    cotangent[:, 0] = 1
    assert op.backward is not None
    return out[:, 0], *op.backward(saved, cotangent)[0].T


def _values(act):
    """f and f' of an activation of theirs."""
    x = torch.from_numpy(GRID.copy()).requires_grad_()
    with torch.enable_grad():
        y = act(x)
        slope, = torch.autograd.grad(y.sum(), x)
    return y.detach().numpy(), slope.numpy()


def _gate_values(module):
    """h and its slopes in g and u, the grid spread over hidden units as wide as the module's."""
    width = module.down_proj.shape[1 if module.is_transposed else 2]
    rows = -(-len(PAIRS) // width)
    g, u = np.resize(PAIRS, (rows * width, 2)).T.reshape(2, rows, width)
    packed = torch.from_numpy(np.concatenate([g, u], 1) if module.is_concatenated else np.stack([g, u], 2).reshape(rows, -1)).requires_grad_()
    with torch.enable_grad():
        h = module._apply_gate(packed)
        slopes, = torch.autograd.grad(h.sum(), packed)
    dg, du = slopes.chunk(2, 1) if module.is_concatenated else (slopes[:, ::2], slopes[:, 1::2])
    return [a.detach().numpy().ravel()[:len(PAIRS)] for a in (h, dg, du)]


def _gatings(module):
    """Attributes of `experts.glu`, made of the numbers that the module carries."""
    limits, alphas, caps = (_numbers(module, word) for word in WORDS)
    clamps = [{}, *({"limit": limit, "limit_at": at} for limit in limits for at in ("pre", "post"))]
    curves = [{}, *({"alpha": a} for a in (*alphas, QUICK_GELU)), *({"cap_gate": g, "cap_up": u} for g in caps for u in caps)]
    for clamp, curve, offset in product(clamps, curves, (0.0, 1.0)):
        yield {"activation": "silu", **clamp, **curve, "up_offset": offset}
    for activation, clamp, offset in product(ACTIVATIONS, clamps, (0.0, 1.0)):
        yield {"activation": activation, **clamp, "up_offset": offset}


def _numbers(module, word):
    """The positive numbers among the attributes, whose name holds `word`, of the module and of its parts."""
    values = {v for m in module.modules() for n, v in vars(m).items() if word in n and isinstance(v, int | float)}
    return sorted(float(v) for v in values if 0 < v < math.inf)


def _named(act):
    return getattr(act, "__name__", type(act).__name__)


def _told(module):
    told = {word: _numbers(module, word) for word in WORDS}
    return ", ".join(f"{word} {', '.join(map(str, values)) or 'none'}" for word, values in told.items())
