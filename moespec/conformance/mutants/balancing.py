"""Defects of balance losses: what is counted, over what it is divided, and what learns."""

from __future__ import annotations

import numpy as np

from moespec import losses
from moespec.conformance.mutants._mutant import Mutant
from moespec.numerics import widen


def _one_count(scores, indices, group=None, mask=None, **attrs):
    return losses.sequence_balance(scores, indices, None, mask, **attrs)


def _not_normalised(scores, indices, group=None, mask=None, *, normalize=True, **attrs):
    return losses.sequence_balance(scores, indices, group, mask, normalize=False, **attrs)


def _padding_sequences_counted(scores, indices, group=None, mask=None, **attrs):
    loss, saved = losses.sequence_balance(scores, indices, group, mask, **attrs)
    if group is None or mask is None or not len(group):
        return loss, saved
    return (loss * len(np.unique(group[mask])) / len(np.unique(group))).astype(loss.dtype), saved


def _normaliser_constant(saved, dloss):
    d = saved.weights * dloss
    with np.errstate(all="ignore"):
        return (d if saved.total is None else np.where(saved.total > 0, d / saved.total, 0)).astype(saved.dtype)


def _layer_by_layer(probs, indices, mask=None, *, normalizer="tokens"):
    loss, saved = losses.pooled_balance(probs, indices, mask, normalizer=normalizer)
    masks = [None] * len(probs) if mask is None else mask
    each = [losses.load_balance(p, i, m, normalizer=normalizer)[0] for p, i, m in zip(probs, indices, masks, strict=True)]
    return np.asarray(np.mean(each)).astype(loss.dtype), saved


def _always_by_assignments(probs, indices, mask=None, *, normalizer="tokens"):
    return losses.pooled_balance(probs, indices, mask, normalizer="assignments")


def _micro_batch(probs, counts, mask=None):
    """Counts of many micro-batches over the tokens of this one."""
    loss, saved = losses.global_balance(probs, counts, mask)
    tokens = len(probs) if mask is None else int(mask.sum())
    return (loss * counts.sum() / max(tokens, 1)).astype(loss.dtype), saved


def _sum_of_f(probs, indices, mask=None, *, devices):
    loss, saved = losses.device_balance(probs, indices, mask, devices=devices)
    return (loss * (probs.shape[1] // devices)).astype(loss.dtype), saved


def _expert_level(probs, indices, mask=None, *, devices):
    return losses.load_balance(probs, indices, mask)


def _every_choice(probs, indices, mask=None, *, devices, limit):
    loss, saved = losses.device_balance(probs, indices, mask, devices=devices)
    return (loss * indices.shape[1] / limit).astype(loss.dtype), saved


def _limit_left_out(probs, indices, mask=None, *, devices, limit):
    return losses.communication_balance(probs, indices, mask, devices=devices, limit=1)


def _factor_e(probs, indices, mask=None, **attrs):
    loss, saved = losses.heterogeneous_balance(probs, indices, mask, **attrs)
    return (loss * probs.shape[1]).astype(loss.dtype), saved


def _one_price(probs, indices, mask=None, *, ffn_experts, tau):
    return losses.heterogeneous_balance(probs, indices, mask, ffn_experts=ffn_experts, tau=1.0)


def _in_bits(logits, mask=None):
    loss, saved = losses.router_entropy(logits, mask)
    return (loss / np.log(2)).astype(loss.dtype), saved


def _log_alone(saved, dloss):
    d = -dloss * saved.share[:, None] * saved.probs * saved.log_probs
    return (d if saved.mask is None else np.where(saved.mask[:, None], d, 0)).astype(saved.dtype)


def _ids_ignored(indices, weights, mask=None, *, experts, k=None):
    return losses.gate_l1(np.maximum(indices, 0), weights, mask, experts=experts, k=k)


def _never_by_load(indices, weights, mask=None, *, experts, k=None):
    return losses.gate_l1(indices, weights, mask, experts=experts)


def _twice(name):
    right = getattr(losses, name)

    def forward(*inputs, **attrs):
        loss, saved = right(*inputs, **attrs)
        return (2 * widen(loss)).astype(loss.dtype), saved
    return forward


def _padding_counted(name):
    right = getattr(losses, name)

    def forward(*inputs, **attrs):
        return right(*inputs[:-1], None, **attrs)
    return forward


def _by_tokens(probs, indices, mask=None, *, choices=None, normalizer="assignments"):
    return losses.load_balance(probs, indices, mask, choices=choices, normalizer="tokens")


MUTANTS = (
    Mutant("losses.load_balance", "never divided by k", _by_tokens),
    Mutant("losses.sequence_balance", "one count for all sequences", _one_count),
    Mutant("losses.sequence_balance", "scores not normalised", _not_normalised),
    Mutant("losses.sequence_balance", "sequences of padding counted", _padding_sequences_counted),
    Mutant("losses.sequence_balance", "normaliser constant in backward", backward=_normaliser_constant),
    Mutant("losses.pooled_balance", "mean of the layers' losses", _layer_by_layer),
    Mutant("losses.pooled_balance", "always divided by k", _always_by_assignments),
    Mutant("losses.global_balance", "normalised by the micro-batch", _micro_batch),
    Mutant("losses.global_balance", "mask ignored", _padding_counted("global_balance")),
    Mutant("losses.device_balance", "sum of f instead of mean", _sum_of_f),
    Mutant("losses.device_balance", "expert level", _expert_level),
    Mutant("losses.communication_balance", "every choice counted", _every_choice),
    Mutant("losses.communication_balance", "limit left out", _limit_left_out),
    Mutant("losses.heterogeneous_balance", "factor E", _factor_e),
    Mutant("losses.heterogeneous_balance", "one price for all", _one_price),
    Mutant("losses.router_entropy", "in bits", _in_bits),
    Mutant("losses.router_entropy", "entropy left out of the gradient", backward=_log_alone),
    Mutant("losses.router_entropy", "mask ignored", _padding_counted("router_entropy")),
    Mutant("losses.gate_l1", "none counts as expert 0", _ids_ignored),
    Mutant("losses.gate_l1", "load left out", _never_by_load),
    Mutant("losses.gate_l1", "coefficient applied twice", _twice("gate_l1")),
)
