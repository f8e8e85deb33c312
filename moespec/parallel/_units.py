"""Experts that live on several ranks: the rows of this rank's tokens go to them and come back."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from moespec.experts import OPS as EXPERTS
from moespec.op import Op
from moespec.parallel._own import Own, joined
from moespec.parallel._route import Way, chunks_of


class Saved(NamedTuple):
    way: Way
    own: Own
    chunks: list            # what the experts saved for every chunk


def exchanged(op: Op) -> Op:
    r"""`op` of the experts (rows, offsets, weights) with rows and offsets of this rank's tokens, weights of this rank's experts.

    Rows are sorted by expert, and ranks own experts in contiguous blocks, so that every rank is sent one span of rows.  What arrives is in
    the order (source rank, expert, arrival), and is sorted to (expert, source rank, arrival): the (expert, token, choice) order of the
    whole batch, so that an expert sees what it sees in one process, in the same order.

    Attributes, beyond those of `op`: `chunks`, into how many parts the experts of a rank are cut; the rows of the next part travel while
    one is computed.
    """
    def forward(rows, offsets, *rest, link, unit, chunks=1, **attrs):
        own = Own.of(op, unit, rest, attrs, link)
        way = Way(link, chunks_of(link, offsets, chunks), len(rows))
        saved = Saved(way, own, [None] * chunks)

        def compute(n, rows, *masked):
            chunk = way.chunks[n]
            out, saved.chunks[n] = own.forward(rows, chunk.offsets, masked, chunk.experts)
            return out

        return way.through("dispatch", "combine", [rows, *own.masks.values()], compute), saved

    return replace(op, name=f"parallel.{op.short}", forward=forward, backward=exchanged_backward, cases=lambda rng: (), invalid=(), requirements=())


def exchanged_backward(saved, dout):
    """The same way: cotangents go to the experts, those of the rows come back; the gradients of the weights stay where these are."""
    parts: list = []

    def compute(n, dout):
        drows, dweights = saved.own.backward(saved.chunks[n], dout, saved.way.chunks[n].experts)
        parts.append(dweights)
        return drows

    drows = saved.way.through("combine_gradient", "dispatch_gradient", [dout], compute)
    return drows, *joined(parts)


OPS = tuple(exchanged(EXPERTS[name]) for name in ("glu", "ffn", "linear"))
