"""What is measured: a SwiGLU layer on the backend, the matrix products that it cannot do without, and its smaller parts."""

from __future__ import annotations

from typing import NamedTuple

import moespec
from moespec.backend import resolve
from moespec.models import mixtral
from moespec_cupy import _launcher


class Shape(NamedTuple):
    """Tokens, width, width of an expert, experts, experts of a token."""

    T: int
    D: int
    F: int
    E: int
    K: int

    @property
    def flops(self):
        """Of the nine products, forward and backward."""
        return 9 * 2 * self.T * self.K * self.D * self.F


class Layer:
    """One layer with everything that a candidate needs."""

    def __init__(self, machine, shape, dtype):
        t, d, f, e, k = shape
        self.machine, self.backend, self.shape, self.dtype = machine, machine.backend, shape, dtype
        self.spec = mixtral(e, f, k)
        self.weights = {"router.w": machine.normal((d, e), dtype, d**-0.5), "experts.w_gate": machine.normal((e, d, f), dtype, d**-0.5),
                        "experts.w_up": machine.normal((e, d, f), dtype, d**-0.5), "experts.w_down": machine.normal((e, f, d), dtype, f**-0.5)}
        self.x, self.dy = machine.normal((t, d), dtype), machine.normal((t, d), dtype)

    def forward(self):
        return moespec.forward(self.spec, self.weights, self.x, backend=self.backend)

    def step(self, way):
        """A function: forward and backward, products computed in that way; returns y and the gradient of x."""
        def run():
            self.backend.gemm = way
            out, saved = self.forward()
            return out.y, moespec.backward(saved, self.dy).x
        return run

    def floor(self):
        """A function: the nine products as dense ones of as many operations, by cuBLAS."""
        (t, d, f, _, k), product = self.shape, _launcher.get().matmul
        n = t * k
        sizes = [(n, d)] * 2 + [(n, f)] * 2 + [(d, f)] * 2 + [(f, d)] * 2
        x, dx, h, dh, w, dw, back, dback = (self.machine.normal(size, self.dtype) for size in sizes)

        def run():
            product(x, w, dh)                               # forward: gate, up, down
            product(x, w, dh)
            product(h, back, dx)
            product(x, back.T, dh)                          # backward: down
            product(h.T, x, dback)
            for _ in range(2):                              # backward: gate, up
                product(h, w.T, dx)
                product(x.T, h, dw)
        return run

    def parts(self):
        """Functions by name, forward and backward each, with the bytes that they move at least."""
        (t, d, _, e, k), backend = self.shape, self.backend
        size, n = self.x.dtype.itemsize, t * k
        logits, dweights = self.machine.normal((t, e), self.dtype), self.machine.normal((t, k), self.dtype)
        route, plan, permute, combine = (resolve(backend, name) for name in ("gates.route", "dispatch.plan", "dispatch.permute", "dispatch.combine"))
        ids, weights = route.forward(logits, None, k=k, over="selected")[0]
        token, row, _ = plan.forward(ids, experts=e)[0]
        rows = permute.forward(self.x, token)[0]
        return {"route": (_both(route, (logits, None), (dweights,), k=k, over="selected"), size * (2 * t * e + 2 * n) + 8 * n),
                "plan": (lambda: plan.forward(ids, experts=e), 8 * 3 * n),
                "permute": (_both(permute, (self.x, token), (rows,)), size * d * (3 * n + t)),
                "combine": (_both(combine, (rows, weights, row), (self.dy,)), size * d * (3 * n + 2 * t))}


def _both(op, inputs, cotangents, **attrs):
    def run():
        _, saved = op.forward(*inputs, **attrs)
        op.backward(saved, *cotangents)
    return run
