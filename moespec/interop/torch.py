"""PyTorch: any op or layer as a differentiable function of tensors, and any torch function as a kernel under test."""

from __future__ import annotations

from functools import wraps
from typing import Any

import ml_dtypes
import numpy as np
import torch
from torch.autograd.function import once_differentiable

from moespec.backend import get_backend, resolve
from moespec.layer import LayerSpec, backward, forward
from moespec.op import as_tuple
from moespec.program import pack
from moespec.registry import OPS

__all__ = ["Layer", "from_numpy", "function", "kernel", "to_numpy"]


def to_numpy(tensor) -> np.ndarray:
    """A NumPy array of a tensor: shared memory on the CPU, bfloat16 as ml_dtypes'."""
    if not isinstance(tensor, torch.Tensor):
        return np.asarray(tensor)
    tensor = tensor.detach().cpu().contiguous()
    return tensor.view(torch.int16).numpy().view(ml_dtypes.bfloat16) if tensor.dtype == torch.bfloat16 else tensor.numpy()


def from_numpy(array) -> torch.Tensor:
    """A tensor of its own memory of a NumPy array."""
    array = np.array(array, order="C")
    return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16) if array.dtype == ml_dtypes.bfloat16 else torch.from_numpy(array)


def function(op: str, *, backend=None, **attrs):
    """An operation as a function of tensors that autograd differentiates by the operation's own backward.

    Parameters
    ----------
    op : str
        "gates.topk_softmax".
    backend : str or Backend, optional
        A backend on NumPy arrays; the reference by default.
    **attrs
        The operation's attributes.

    Returns
    -------
    callable
        Takes tensors (None for an optional input) in the op's order; returns a tensor, or a NamedTuple by output name.
    """
    record, chosen = OPS[op], get_backend(backend)

    class Operation(torch.autograd.Function):
        @staticmethod
        def forward(ctx, *inputs):
            ctx.set_materialize_grads(False)
            ctx.devices = [x.device if isinstance(x, torch.Tensor) else None for x in inputs]
            ctx.save_for_backward(*(x for x in inputs if isinstance(x, torch.Tensor)))
            ctx.impl = resolve(chosen, op, attrs)
            arrays = [None if x is None else chosen.from_numpy(to_numpy(x)) for x in inputs]
            outputs, ctx.kept = ctx.impl.forward(*arrays, **attrs)
            device = next((d for d in ctx.devices if d is not None), None)
            found = tuple(from_numpy(chosen.to_numpy(y)).to(device) for y in as_tuple(outputs))
            ctx.mark_non_differentiable(*(y for a, y in zip(record.outputs, found, strict=True) if a.kind != "real"))
            return found

        @staticmethod
        @once_differentiable
        def backward(ctx, *cotangents):
            _ = ctx.saved_tensors                         # raises if one was overwritten meanwhile: what the op keeps shares its memory
            real = [None if d is None else chosen.from_numpy(to_numpy(d))
                    for a, d in zip(record.outputs, cotangents, strict=True) if a.kind == "real"]
            if all(d is None for d in real):
                return (None,) * len(ctx.devices)
            grads = as_tuple(ctx.impl.backward(ctx.kept, *real))
            named = dict(zip((a.name for a in record.grads), grads, strict=True))
            return tuple(None if named.get(a.name) is None or device is None else from_numpy(chosen.to_numpy(named[a.name])).to(device)
                         for a, device in zip(record.inputs, ctx.devices, strict=True))

    def run(*inputs):
        return pack(record, list(Operation.apply(*inputs, *(None,) * (len(record.inputs) - len(inputs)))))

    run.__name__, run.__doc__ = record.short, record.forward.__doc__
    return run


class Layer(torch.nn.Module):
    """A declared layer as a module: parameters by their dotted names with underscores, ``router_w``, ``experts_w_gate``.

    ``forward(x, noise=None, context=None)`` returns (y, losses), the losses already times their coefficients.
    """

    def __init__(self, spec: LayerSpec, d_model: int, *, rng=None, dtype=torch.float32, backend=None):
        super().__init__()
        self.spec, self.backend, self.rng = spec, backend, np.random.default_rng(rng)
        self.names = {name: name.replace(".", "_") for name in spec.init(d_model, rng=0)}
        for name, value in spec.init(d_model, rng=self.rng).items():
            self.register_parameter(self.names[name], torch.nn.Parameter(torch.from_numpy(value).to(dtype)))

    def forward(self, x, noise=None, context=None):
        given = {"noise": noise, "context": context, "training": self.training, "backend": self.backend}
        if self.training and noise is None:
            given["noise"] = self.spec.draw(int(np.prod(x.shape[:-1])), x.shape[-1], rng=self.rng)
        y, *losses = _Layer.apply(self.spec, given, tuple(self.names), x, *(getattr(self, p) for p in self.names.values()))
        return y, {loss.name: value for loss, value in zip(self.spec.losses, losses, strict=True)}


class _Layer(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, spec, given, names, x, *params):
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x, *params)
        out, ctx.saved = forward(spec, dict(zip(names, map(to_numpy, params), strict=True)), to_numpy(x), **given)
        ctx.device = x.device
        return tuple(from_numpy(v).to(x.device) for v in (out.y, *out.losses.values()))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy, *dlosses):
        _ = ctx.saved_tensors                             # likewise
        names = (loss.name for loss in ctx.saved.spec.losses)
        weights = {n: 0.0 if d is None else float(d) for n, d in zip(names, dlosses, strict=True)}
        grads = backward(ctx.saved, None if dy is None else to_numpy(dy), dlosses=weights)
        return None, None, None, *(from_numpy(g).to(ctx.device) for g in (grads.x, *grads.params.values()))


def kernel(forward_function, backward_function=None, *, constant=()) -> dict[str, Any]:
    """What `conformance.check` needs to test a function of tensors: ``check(op, **kernel(f))``.

    Without `backward_function` gradients come from autograd, if the function returns something differentiable.  `constant` holds the
    positions of real inputs that the op does not differentiate (noise, targets).
    """
    @wraps(forward_function or (lambda *inputs, **attrs: None))        # its signature tells what it takes
    def run(*inputs, **attrs):
        with torch.enable_grad():
            leaves = [x.requires_grad_() if isinstance(x, torch.Tensor) and x.is_floating_point() and i not in constant else x
                      for i, x in enumerate(inputs)]
            outputs = forward_function(*leaves, **attrs)
        return outputs, (leaves, outputs)

    def pull(saved, *cotangents):
        leaves, outputs = saved
        real = [y for y in _in_order(outputs) if isinstance(y, torch.Tensor) and y.is_floating_point()]
        wanted = [x for x in leaves if isinstance(x, torch.Tensor) and x.requires_grad]
        live = [(y, d) for y, d in zip(real, cotangents, strict=True) if y.requires_grad]
        grads = torch.autograd.grad([y for y, _ in live], wanted, [d for _, d in live], allow_unused=True) if live else [None] * len(wanted)
        return tuple(torch.zeros_like(x) if g is None else g for x, g in zip(wanted, grads, strict=True))

    return {"forward": run, "backward": backward_function or pull, "from_array": from_numpy, "to_array": to_numpy}


def _in_order(outputs):
    return as_tuple(tuple(outputs.values()) if isinstance(outputs, dict) else outputs)
