"""Experts that live on several ranks, on rows that every rank has: the slots of Soft MoE."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from moespec.experts import OPS as EXPERTS
from moespec.op import Op
from moespec.parallel._gather import bounds
from moespec.parallel._link import blocks
from moespec.parallel._own import Own

ALL = slice(None)


class Saved(NamedTuple):
    own: Own
    saved: Any              # of this rank's experts
    sizes: tuple            # rows of every rank


def on_slots(op: Op) -> Op:
    """`op` of the experts with the rows of all experts on every rank: each computes those of its own, then all are gathered."""
    def forward(rows, offsets, *rest, link, unit, **attrs):
        own = Own.of(op, unit, rest, attrs, link)
        if own.masks:
            raise NotImplementedError(f"slots_{op.short}: no {', '.join(own.masks)} on slots")
        ends = link.host(offsets).astype(np.int64)
        last = np.concatenate([[0], np.cumsum(blocks(len(ends) - 1, link.size))])
        sizes = tuple(np.diff(ends[last]).tolist())
        start, stop = bounds(sizes, link.rank)
        out, saved = own.forward(rows[start:stop], ends[last[link.rank]:last[link.rank + 1] + 1] - start, (), ALL)
        return link.all_gather("slots", out, sizes), Saved(own, saved, sizes)

    return replace(op, name=f"parallel.slots_{op.short}", forward=forward, backward=on_slots_backward, cases=lambda rng: (), invalid=(),
                   requirements=())


def on_slots_backward(saved, dout):
    """Every rank has the whole cotangent: it pulls its own rows', then all are gathered."""
    link = saved.own.link
    start, stop = bounds(saved.sizes, link.rank)
    drows, dweights = saved.own.backward(saved.saved, dout[start:stop], ALL)
    return link.all_gather("slots gradient", drows, saved.sizes), *dweights


OPS = tuple(on_slots(EXPERTS[name]) for name in ("glu", "ffn"))
