"""This rank's own experts: the experts' op on the rows that arrived, for some of them, or for none."""

from __future__ import annotations

from typing import Any, NamedTuple

from moespec.op import Op, as_tuple
from moespec.parallel._arrays import namespace


class Own(NamedTuple):
    """The experts of this rank: `weights` by the names of the op's inputs, one block each, None where the layer has none."""

    op: Op
    unit: Any                       # the backend's implementation of the op
    weights: dict[str, Any]
    attrs: dict[str, Any]
    link: Any

    @classmethod
    def of(cls, op, unit, rest, attrs, link):
        """From the inputs behind rows and offsets; also those that are shaped like rows (a dropout mask)."""
        named = dict(zip((a.name for a in op.inputs[2:]), rest, strict=True))
        masks = {a.name: named.pop(a.name) for a in op.inputs[2:] if a.shape.startswith("N")}
        return cls(op, unit, named, attrs, link), {name: a for name, a in masks.items() if a is not None}

    def forward(self, rows, offsets, masks, experts):
        """Outputs, and what backward needs, for the `experts` (a slice) of this rank."""
        given = {**masks, **self._of(experts)}
        if not len(next(w for w in given.values() if w is not None and w.ndim == 3)):
            return self._nothing(rows), None
        offsets = self.link.backend.from_numpy(offsets)
        return self.unit.forward(rows, offsets, *(given.get(a.name) for a in self.op.inputs[2:]), **self.attrs)

    def backward(self, saved, dout, experts):
        """The gradients of rows and of every weight, in the order of the op."""
        given = self._of(experts)
        if saved is None:                                  # no experts: no rows either
            return self._no_rows(dout), [given[a.name] for a in self.op.grads[1:]]
        drows, *dweights = as_tuple(self.unit.backward(saved, dout))
        return drows, dweights

    def _of(self, experts):
        return {name: None if w is None else w[experts] for name, w in self.weights.items()}

    def _nothing(self, rows):
        last = [w for w in self.weights.values() if w is not None and w.ndim == 3][-1]
        return namespace(rows).zeros((0, last.shape[2]), rows.dtype)

    def _no_rows(self, dout):
        first = next(w for w in self.weights.values() if w is not None and w.ndim == 3)
        return namespace(dout).zeros((0, first.shape[1]), dout.dtype)


def joined(parts):
    """The gradients of every weight from those of all chunks."""
    return [None if part[0] is None else namespace(part[0]).concatenate(part) for part in zip(*parts, strict=True)]
