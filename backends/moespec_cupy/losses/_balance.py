"""What the balance losses share: a constant per expert times the mean probability of the expert."""

from typing import Any, NamedTuple

from moespec_cupy._kernel import Kernels, accumulation, empty, items, one_block, read, zeros
from moespec_cupy.dispatch._column_sums import column_sums

KERNELS = Kernels(__file__, "_balance.cu")


class Saved(NamedTuple):
    coefficient: Any        # E
    share: Any              # ()   of a valid token in the mean
    mask: Any               # T
    shape: tuple[int, ...]  # of the probabilities
    dtype: Any


def count_choices(indices, experts, mask=None, counted=None, together=0):
    """int64[E]: how often valid tokens chose every expert; or every device of so many experts, once a token, at its first expert."""
    ids, counts = read(indices, "int64"), zeros(experts, "int64")
    tokens, choices = ids.shape
    counted = choices if counted is None else counted
    KERNELS("count_choices", items(tokens * counted), ids, read(mask), counts, tokens, choices, counted, experts, together)
    return counts


def coefficients(counts, mask, tokens, dtype, *, scale, per_token, together=1, ffn=None, tau=1.0):
    """(constants [E], share of a token) from counts: see the kernel."""
    coefficient, share = empty(counts.shape, dtype), empty((), dtype)
    KERNELS("coefficients", one_block(), counts, read(mask), coefficient, share, tokens, counts.size, together,
            counts.size if ffn is None else ffn, scale, tau, per_token)
    return coefficient, share


def balance(probs, counts, mask=None, **how):
    """(loss, saved): the probabilities of valid tokens, weighted with `coefficients` of the counts."""
    rows, mask, acc = read(probs).reshape(-1, probs.shape[-1]), read(mask), accumulation(probs.dtype)
    (coefficient, share), loss = coefficients(counts, mask, len(rows), acc, **how), empty((), acc)
    KERNELS("weigh_sums", one_block(), coefficient, share, column_sums(rows, "float64", mask), loss, counts.size)
    return loss, Saved(coefficient, share, mask, probs.shape, probs.dtype)


def balance_backward(saved, dloss):
    """The counts are constant."""
    dprobs, experts = empty(saved.shape, saved.dtype), saved.shape[-1]
    tokens = dprobs.size // max(experts, 1)
    KERNELS("weigh_means_backward", items(dprobs.size), saved.coefficient, saved.share, saved.mask, read(dloss), dprobs, tokens, experts)
    return dprobs


def per_token(choices, normalizer):
    """What a token's assignments are divided by."""
    return max(choices, 1) if normalizer == "assignments" else 1
