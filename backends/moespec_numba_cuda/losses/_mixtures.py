"""The likelihood of a mixture: of what every expert thinks likely, weighted by a softmax gate."""

from __future__ import annotations

from moespec_numba_cuda._arrays import empty
from moespec_numba_cuda._device import cuda
from moespec_numba_cuda._kernel import items, kernel
from moespec_numba_cuda._rows import clear, total
from moespec_numba_cuda.gates._softmax import softmax_row
from moespec_numba_cuda.losses._lse import lse_row
from moespec_numba_cuda.losses._mean import cotangent, counts, mean, per_token


def mixture(logits, evidence, mask, counted, dtype):
    """(a scalar: the mean negative log-likelihood, joint [T, E]) from the gate's logits and each expert's log-likelihood [T, E]."""
    joint, likelihood = empty(logits.shape, logits.dtype), empty(len(logits), logits.dtype)
    _mixture(items(len(logits)), logits, evidence, mask, joint, likelihood)
    return mean(likelihood, mask, counted, dtype, -1.0), joint


def mixture_backward(logits, joint, mask, counted, dloss):
    """(dlogits, responsibilities), both [T, E]; 0 for tokens that do not count."""
    dlogits, posterior = empty(logits.shape, logits.dtype), empty(logits.shape, logits.dtype)
    _mixture_backward(items(len(logits)), logits, joint, mask, counted, cotangent(dloss, logits.dtype), dlogits, posterior)
    return dlogits, posterior


@kernel("T2 T2 b1 T2 T1")
def _mixture(logits, evidence, mask, joint, likelihood):
    for t in range(cuda.grid(1), logits.shape[0], cuda.gridsize(1)):
        if counts(mask, t):
            whole = lse_row(logits[t])
            for e in range(logits.shape[1]):
                joint[t, e] = logits[t, e] - whole + evidence[t, e]
            likelihood[t] = lse_row(joint[t])


@kernel("T2 T2 b1 d1 T1 T2 T2")
def _mixture_backward(logits, joint, mask, counted, dloss, dlogits, posterior):
    """Prior minus posterior; the responsibilities add up to 1 but for their roundings, as in everybody's autograd."""
    share = per_token(1.0, dloss, counted)
    for t in range(cuda.grid(1), logits.shape[0], cuda.gridsize(1)):
        if counts(mask, t):
            softmax_row(logits[t], dlogits[t])
            softmax_row(joint[t], posterior[t])
            one = total(posterior[t])
            for e in range(logits.shape[1]):
                dlogits[t, e] = share * (dlogits[t, e] * one - posterior[t, e])
        else:
            clear(dlogits[t])
            clear(posterior[t])
