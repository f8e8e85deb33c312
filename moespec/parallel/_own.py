"""This rank's own experts: the experts' op on the rows that arrived, for some of them, or for none."""

from __future__ import annotations

from typing import Any, NamedTuple

from moespec.op import Op, as_tuple
from moespec.parallel._arrays import namespace


class Own(NamedTuple):
    """The experts of this rank: its inputs by the names of the op's, None where the layer has none."""

    op: Op
    unit: Any                       # the backend's implementation of the op
    weights: dict[str, Any]         # one block of every parameter
    masks: dict[str, Any]           # what is shaped like rows, and travels with them: dropout
    attrs: dict[str, Any]
    link: Any

    @classmethod
    def of(cls, op, unit, rest, attrs, link):
        """From the inputs behind rows and offsets."""
        named = dict(zip((a.name for a in op.inputs[2:]), rest, strict=True))
        rowwise = {a.name for a in op.inputs[2:] if a.shape.startswith("N")}
        weights = {name: a for name, a in named.items() if name not in rowwise}
        masks = {name: a for name, a in named.items() if name in rowwise and a is not None}
        return cls(op, unit, weights, masks, attrs, link)

    def forward(self, rows, offsets, masks, experts):
        """Outputs, and what backward needs, for the `experts` (a slice) of this rank; `masks` are those of the rows that arrived."""
        given = self._of(experts)
        matrices = _matrices(given)
        if not len(matrices[0]):                           # no experts: no rows either
            return namespace(rows).zeros((0, matrices[-1].shape[2]), rows.dtype), None
        given |= zip(self.masks, masks, strict=True)
        return self.unit.forward(rows, self.link.backend.from_numpy(offsets), *(given.get(a.name) for a in self.op.inputs[2:]), **self.attrs)

    def backward(self, saved, dout, experts):
        """The gradients of rows, and of every weight in the order of the op."""
        given = self._of(experts)
        matrices = _matrices(given)
        if not len(matrices[0]):
            return namespace(dout).zeros((0, matrices[0].shape[1]), dout.dtype), [given[a.name] for a in self.op.grads[1:]]
        drows, *dweights = as_tuple(self.unit.backward(saved, dout))
        return drows, dweights

    def _of(self, experts):
        return {name: None if w is None else w[experts] for name, w in self.weights.items()}


def _matrices(weights):
    """From the first, which takes rows in, to the last, which gives them out."""
    return [w for w in weights.values() if w is not None and w.ndim == 3]


def joined(parts):
    """The gradients of every weight from those of all chunks."""
    return [None if part[0] is None else namespace(part[0]).concatenate(part) for part in zip(*parts, strict=True)]
