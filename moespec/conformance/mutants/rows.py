"""Defects of the ops on whole branches and on rows: shared experts, their gates, weights on the input."""

from __future__ import annotations

import numpy as np

from moespec import dispatch, experts
from moespec.conformance.mutants._mutant import Mutant
from moespec.numerics import widen


def _only_the_second_scaled(a, b, *, scale=1.0):
    y, saved = dispatch.add(a, b, scale=scale)
    return (widen(a) + widen(b) * scale).astype(y.dtype), saved


def _gradient_not_scaled(saved, dy):
    return dispatch.add_backward(saved._replace(scale=1.0), dy)


def _rounded_sum(a, b, *, scale=1.0):
    """In bfloat16 even for wider inputs, as layers under autocast do."""
    import ml_dtypes
    y, saved = dispatch.add(a, b)
    y = y.astype(ml_dtypes.bfloat16)
    return (y.astype(np.float32) * np.float32(scale)).astype(a.dtype), saved._replace(scale=scale)


def _bias_per_token(x, b):
    """Only the first token gets it."""
    y, saved = dispatch.add_bias(x, b)
    return np.where(np.arange(len(x))[:, None] == 0, y, x), saved


def _mean_over_tokens(saved, dy):
    dx, db = dispatch.add_bias_backward(saved, dy)
    return dx, (db / max(len(dy), 1)).astype(db.dtype)


def _low_sum(saved, dy):
    import ml_dtypes
    total = np.zeros(dy.shape[1], ml_dtypes.bfloat16)
    for row in dy:
        total = (total + row.astype(ml_dtypes.bfloat16)).astype(ml_dtypes.bfloat16)
    return dy.astype(saved.dtypes[0]), total.astype(saved.dtypes[1])


def _gate_squared(x, gate):
    y, saved = dispatch.gate_rows(x, gate)
    return (widen(y) * widen(gate)).astype(y.dtype), saved


def _gate_detached(saved, dy):
    dx, dgate = dispatch.gate_rows_backward(saved, dy)
    return dx, np.zeros_like(dgate)


def _swapped(a, b):
    _, saved = dispatch.concat(a, b)
    return np.concatenate([b.astype(a.dtype), a], 1), saved


def _halves(saved, dy):
    half = dy.shape[1] // 2
    da, db = dispatch.concat_backward(saved, dy)
    if da.shape[1] <= db.shape[1]:
        da = np.concatenate([dy[:, half:], dy[:, :half]], 1)[:, :da.shape[1]].astype(da.dtype)
    return da, db


def _weight_twice(rows, weights, row):
    return dispatch.weigh_rows(rows, (widen(weights) * widen(weights)).astype(weights.dtype), row)


def _weights_in_token_order(rows, weights, row):
    """Row n takes the n-th live weight, as if rows were not sorted by expert."""
    places = row.copy()
    places[row >= 0] = np.sort(row[row >= 0])
    return dispatch.weigh_rows(rows, weights, places)


def _missing_takes_the_last_row(rows, weights, row):
    return dispatch.weigh_rows(rows, weights, np.where(row < 0, len(rows) - 1, row) if len(rows) else row)


def _weights_detached(saved, dout):
    drows, dweights = dispatch.weigh_rows_backward(saved, dout)
    return drows, np.zeros_like(dweights)


def _weight_on_the_input(x, indices, weights, *params, **attrs):
    """E(w x), choice by choice."""
    y, saved = experts.moe(x, indices, weights, *params, **attrs)
    wide, total = [None if p is None else widen(p) for p in params], np.zeros(y.shape, widen(x).dtype)
    for j in range(indices.shape[1]):
        ids = indices[:, j:j + 1]
        total += experts.moe(widen(x) * widen(weights)[:, j:j + 1], ids, np.ones(ids.shape), *wide, **{**attrs, "rows": None})[0]
    return total.astype(y.dtype), saved


MUTANTS = (
    Mutant("experts.moe", "weight on the experts' input", _weight_on_the_input),
    Mutant("dispatch.add", "only the shared branch scaled", _only_the_second_scaled),
    Mutant("dispatch.add", "gradient not scaled", backward=_gradient_not_scaled),
    Mutant("dispatch.add", "sum rounded to bfloat16", _rounded_sum),
    Mutant("dispatch.add_bias", "added to the first token only", _bias_per_token),
    Mutant("dispatch.add_bias", "gradient averaged over the tokens", backward=_mean_over_tokens),
    Mutant("dispatch.add_bias", "gradient added up in bfloat16", backward=_low_sum),
    Mutant("dispatch.gate_rows", "gate applied twice", _gate_squared),
    Mutant("dispatch.gate_rows", "no gradient for the gate", backward=_gate_detached),
    Mutant("dispatch.concat", "branches in the other order", _swapped),
    Mutant("dispatch.concat", "gradient of the first from the wrong columns", backward=_halves),
    Mutant("dispatch.weigh_rows", "weight applied twice", _weight_twice),
    Mutant("dispatch.weigh_rows", "weights in token order", _weights_in_token_order),
    Mutant("dispatch.weigh_rows", "-1 takes the last row", _missing_takes_the_last_row),
    Mutant("dispatch.weigh_rows", "no gradient for the weights", backward=_weights_detached),
)
