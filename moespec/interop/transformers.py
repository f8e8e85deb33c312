"""transformers: the experts of a real model, computed and differentiated by a moespec backend.

`register` adds a name to transformers' experts interface; ``model.set_experts_implementation("moespec")`` or
``from_pretrained(..., experts_implementation="moespec")`` then selects it.  Router, attention and losses stay the model's own.
"""

from __future__ import annotations

import torch
from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS

from moespec.backend import Backend, get_backend
from moespec.interop._experts_form import form_of
from moespec.interop.torch import function

__all__ = ["register"]

OURS = "moespec_backend"                     # an attribute of the functions that `register` made


def register(backend: str | Backend | None = None, name: str = "moespec") -> None:
    """Make `name` an experts implementation of transformers that runs on `backend`.

    .. math:: y_t = \\sum_j w_{tj} \\, \\mathrm{norm}(E_{i_{tj}}(x_t))

    with the routing that the model's router decided.  Experts are what the module declares: gated or not, with biases or not,
    transposed, gate and up projection in halves or interleaved, any nonlinearity that `experts.glu` (`experts.ffn` without a gate)
    has, recognised by the values and slopes of the module's own ``_apply_gate``.  A norm after the experts is the module's own.
    An id of num_experts, which marks a choice of another rank under expert parallelism, becomes -1: it contributes nothing, and
    its weight gets gradient 0.

    Parameters
    ----------
    backend : str or Backend, optional
        A backend on NumPy arrays; MOESPEC_BACKEND or the reference by default.
    name : str
        Several backends may be registered under several names; a name of transformers' own is refused.

    Raises
    ------
    ValueError
        The backend is unknown, cannot run here or does not work on NumPy arrays; the name is taken.

    Notes
    -----
    A call of a registered function raises NotImplementedError for experts that it cannot represent, naming their class and the
    reason, and TypeError for tensors that are not in the memory or not in a dtype of the backend: nothing is copied from a device.
    """
    chosen = get_backend(backend)
    if not chosen.host:
        raise ValueError(f"register: backend {chosen.name!r} does not work on NumPy arrays")
    there = ALL_EXPERTS_FUNCTIONS.get(name)
    if name == "eager" or (there is not None and not hasattr(there, OURS)):
        raise ValueError(f"register: {name!r} is an experts implementation of transformers' own")

    @torch.compiler.disable
    def experts(module, hidden_states, top_k_index, top_k_weights):
        return _run(chosen, module, hidden_states, top_k_index, top_k_weights)

    setattr(experts, OURS, chosen)
    ALL_EXPERTS_FUNCTIONS.register(name, experts)


def _run(backend, module, x, ids, weights):
    """The experts of `module` for tokens x[T, D]."""
    op, attrs = form_of(module)
    params = _parameters(module)
    _require_owned(backend, module, {"hidden_states": x, "top_k_index": ids, "top_k_weights": weights, **params})
    ids = torch.where(ids == module.num_experts, -1, ids)
    given = _gated(module, **params) if module.has_gate else _plain(module, **params)
    if module.has_gate and not module.has_post_expert_norm:
        return function(op, backend=backend, **attrs)(x, ids, weights, *given)
    token, row, offsets = function("dispatch.plan", backend=backend, experts=module.num_experts)(ids)
    rows = function("dispatch.permute", backend=backend)(x, token)
    out = function(op, backend=backend, **attrs)(rows, offsets, *given)
    if module.has_post_expert_norm:
        out = module.post_expert_norm(out)
    return function("dispatch.combine", backend=backend)(out, weights, row).to(x.dtype)


def _parameters(module):
    """The tensors that the flags of `module` promise."""
    names = ["gate_up_proj" if module.has_gate else "up_proj", "down_proj"]
    names += [f"{n}_bias" for n in names] if module.has_bias else []
    found = {n: getattr(module, n, None) for n in names}
    for name, p in found.items():
        if type(p) not in (torch.Tensor, torch.nn.Parameter):
            raise NotImplementedError(f"{type(module).__name__}: {name} is {type(p).__name__}, wanted a plain tensor: "
                                      f"sharded and quantised experts need another experts implementation")
    return found


def _require_owned(backend, module, tensors):
    for name, tensor in tensors.items():
        if tensor.device.type != "cpu":
            raise TypeError(f"{type(module).__name__}: {name} is on {tensor.device}, backend {backend.name!r} works on the CPU: convert it yourself")
        dtype = str(tensor.dtype).removeprefix("torch.")
        if name != "top_k_index" and dtype not in backend.dtypes:
            raise TypeError(f"{type(module).__name__}: {name} is {dtype}, backend {backend.name!r} works on {', '.join(sorted(backend.dtypes))}")


def _gated(module, gate_up_proj, down_proj, gate_up_proj_bias=None, down_proj_bias=None):
    """w_gate, w_up, w_down, and the biases or None where `experts.moe` and `experts.glu` want them."""
    gate, up = _halves(module, _turned(module, gate_up_proj))
    biases = (None, None) if gate_up_proj_bias is None else _halves(module, gate_up_proj_bias)
    dropout = (None,) if module.has_post_expert_norm else ()             # which glu has, and moe has not
    return gate, up, _turned(module, down_proj), *dropout, *biases, down_proj_bias


def _plain(module, up_proj, down_proj, up_proj_bias=None, down_proj_bias=None):
    """w_in, w_out, b_in, b_out of `experts.ffn`."""
    return _turned(module, up_proj), _turned(module, down_proj), up_proj_bias, down_proj_bias


def _turned(module, w):
    """[E, in, out], as a view."""
    return w if module.is_transposed else w.transpose(1, 2)


def _halves(module, packed):
    """Gate and up projection, as views."""
    return packed.chunk(2, -1) if module.is_concatenated else (packed[..., ::2], packed[..., 1::2])
