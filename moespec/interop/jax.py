"""JAX: any op as a function with its own derivative (`jax.custom_vjp`), computed on the host."""

from __future__ import annotations

import jax
import numpy as np

from moespec.backend import get_backend, resolve
from moespec.op import as_tuple
from moespec.program import pack
from moespec.registry import OPS

__all__ = ["function"]


def function(op: str, *, backend=None, **attrs):
    """An operation as a function of JAX arrays that `jax.grad` differentiates by the operation's own backward.

    It works under `jax.jit`: the computation is a callback to the host.  Backward computes forward again, since what an op saves is its
    own.  64-bit arrays need ``jax_enable_x64``.

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
        Takes arrays (None for an optional input) in the op's order; returns an array, or a NamedTuple by output name.
    """
    record, chosen = OPS[op], get_backend(backend)
    impl = resolve(chosen, op, attrs)

    def compute(*inputs):
        outputs, kept = impl.forward(*(None if x is None else chosen.from_numpy(np.asarray(x)) for x in inputs), **attrs)
        return tuple(_host(chosen.to_numpy(y)) for y in as_tuple(outputs)), kept

    def shapes(*inputs):
        found, _ = compute(*(None if x is None else _stand_in(record, a, x) for a, x in zip(record.inputs, inputs, strict=True)))
        return tuple(jax.ShapeDtypeStruct(y.shape, y.dtype) for y in found)

    @jax.custom_vjp
    def run(*inputs):
        return jax.pure_callback(lambda *a: compute(*a)[0], shapes(*inputs), *inputs)

    def keep(*inputs):
        return run(*inputs), inputs

    def pull(inputs, cotangents):
        given = [x for a, x in zip(record.inputs, inputs, strict=True) if a.differentiable and x is not None]
        real = [d for a, d in zip(record.outputs, cotangents, strict=True) if a.kind == "real"]
        found = iter(jax.pure_callback(gradients, tuple(jax.ShapeDtypeStruct(x.shape, x.dtype) for x in given), inputs, real))
        return tuple(None if x is None else next(found) if a.differentiable else _zero(x) for a, x in zip(record.inputs, inputs, strict=True))

    def gradients(inputs, cotangents):
        assert impl.backward is not None
        _, kept = compute(*inputs)
        grads = as_tuple(impl.backward(kept, *(chosen.from_numpy(np.asarray(d)) for d in cotangents)))
        return tuple(_host(chosen.to_numpy(g)) for a, g in zip(record.grads, grads, strict=True)
                     if g is not None and inputs[record.inputs.index(a)] is not None)

    run.defvjp(keep, pull)

    def call(*inputs):
        return pack(record, list(run(*inputs, *(None,) * (len(record.inputs) - len(inputs)))))

    call.__name__, call.__doc__ = record.short, record.forward.__doc__
    return call


def _host(array):
    """int64 as JAX holds it where 64 bits are switched off."""
    return np.asarray(array).astype(jax.dtypes.canonicalize_dtype(np.asarray(array).dtype))


def _stand_in(record, arg, x):
    """An array of the right shape and dtype to learn the outputs' from: ones, and ids that are none."""
    return np.full(x.shape, -1 if arg.kind == "index" else 0 if arg.kind == "count" else 1, x.dtype)


def _zero(x):
    return np.zeros(x.shape, jax.dtypes.float0 if not jax.numpy.issubdtype(x.dtype, jax.numpy.floating) else x.dtype)
