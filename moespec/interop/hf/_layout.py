"""How a tensor of a checkpoint holds parameters of ours: linear, and undone exactly.

A tensor is read in this order: stack (one tensor per expert), unflatten, split into parts, swap the last two axes, give every part the
parameter's shape.  `write` is the inverse, so what holds of values holds of gradients too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Tensor:
    """One tensor of a checkpoint.

    Attributes
    ----------
    name : str
        Under the layer's prefix; ``{e}`` stands for the number of an expert, one tensor each.
    params : tuple of str
        The parameters that it holds.
    swap : bool
        The last two axes are the other way round (a torch linear layer stores [out, in]).
    split : {"", "parts", "alternating"}
        Several parameters after one another, or in turn, along `axis` of the tensor.
    axis : int
        Where it is split, counted from the end.
    flat : bool
        The experts lie below each other: [E F, D].
    rank : int, optional
        Dimensions of the tensor where they are fewer or more than the parameter's: leading ones are dropped or added.
    spare : bool
        The tensor has further experts that nothing reads; written as zeros.
    """

    name: str
    params: tuple[str, ...]
    swap: bool = False
    split: str = ""
    axis: int = -1
    flat: bool = False
    rank: int | None = None
    spare: bool = False

    def names(self, experts: int) -> list[str]:
        """The tensors' names."""
        return [self.name.format(e=e) for e in range(experts)] if "{e}" in self.name else [self.name]

    def shape(self, shapes) -> tuple[int, ...]:
        """What shape the tensor has (of every expert, where there is one for each), given the parameters' shapes."""
        inner = [self._stored(shapes[p]) for p in self.params]
        whole = list(inner[0])
        if self.split:
            whole[self.axis] = sum(s[self.axis] for s in inner)
        if self.flat:
            whole[:2] = [whole[0] * whole[1]]
        return tuple(whole[1:] if "{e}" in self.name else whole)

    def _stored(self, shape) -> tuple[int, ...]:
        """The shape of one part: swapped, with the tensor's number of dimensions."""
        shape = (*shape[:-2], shape[-1], shape[-2]) if self.swap else tuple(shape)
        if self.rank is None:
            return shape
        lead = max(self.rank - len(shape), 0)
        return (1,) * lead + shape[len(shape) + lead - self.rank:]

    def read(self, arrays, shapes) -> dict[str, np.ndarray]:
        """Parameters from the tensor, or from one tensor per expert."""
        x = np.stack(arrays) if "{e}" in self.name else np.asarray(arrays[0])
        if self.flat:
            x = x.reshape(shapes[self.params[0]][0], -1, x.shape[-1])
        if self.spare:
            x = x[:shapes[self.params[0]][0]]
        parts = self._parts(x, shapes)
        return {p: (np.swapaxes(part, -1, -2) if self.swap else part).reshape(shapes[p]) for p, part in zip(self.params, parts, strict=True)}

    def _parts(self, x, shapes):
        if self.split == "alternating":
            n = len(self.params)
            return [x[self._along(slice(i, None, n), x.ndim)] for i in range(n)]
        if self.split == "parts":
            sizes = [self._stored(shapes[p])[self.axis] for p in self.params]
            return np.split(x, np.cumsum(sizes)[:-1], axis=self.axis)
        return [x]

    def _along(self, where, ndim):
        index = [slice(None)] * ndim
        index[self.axis] = where
        return tuple(index)

    def write(self, params, experts: int, spare: int = 0) -> dict[str, np.ndarray]:
        """The tensor, or one per expert, from parameters."""
        values = [np.asarray(params[p]) for p in self.params]
        parts = [(np.swapaxes(v, -1, -2) if self.swap else v).reshape(self._stored(v.shape)) for v in values]
        x = self._joined(parts)
        if self.flat:
            x = x.reshape(math.prod(x.shape[:2]), x.shape[-1])
        if self.spare and spare:
            x = np.concatenate([x, np.zeros((spare, *x.shape[1:]), x.dtype)])
        if "{e}" not in self.name:
            return {self.name: np.ascontiguousarray(x)}
        return {name: np.ascontiguousarray(x[e]) for e, name in enumerate(self.names(experts))}

    def _joined(self, parts):
        if self.split == "alternating":
            x = np.empty(self._wide(parts), parts[0].dtype)
            for i, part in enumerate(parts):
                x[self._along(slice(i, None, len(parts)), x.ndim)] = part
            return x
        return np.concatenate(parts, axis=self.axis) if self.split else parts[0]

    def _wide(self, parts):
        shape = list(parts[0].shape)
        shape[self.axis] *= len(parts)
        return shape
