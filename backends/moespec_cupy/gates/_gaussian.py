"""gates.gaussian."""

from typing import Any, NamedTuple

from moespec.program import Impl
from moespec_cupy._admit import admit
from moespec_cupy._kernel import Kernels, accumulation, columns, empty, items, read, rows
from moespec_cupy.experts._products import common, like

KERNELS = Kernels(__file__, "_gaussian.cu")


class Saved(NamedTuple):
    inputs: tuple           # as they came
    x: Any                  # T D     the inputs in one dtype
    means: Any              # E D
    logs: Any               # E D     of the precisions


def forward(x, means, log_precisions, log_priors):
    dims = admit("gates.gaussian", x, means, log_precisions, log_priors)
    *wide, priors = common(x, means, log_precisions, log_priors)
    logits = empty((dims.T, dims.E), accumulation(wide[0].dtype))
    KERNELS("gaussian", rows(logits.size), *wide, priors, logits, dims.T, dims.E, dims.D)
    return logits.astype(accumulation(x.dtype), copy=False), Saved((x, means, log_precisions, log_priors), *wide)


def backward(saved, dlogits):
    inputs, *wide = saved
    (tokens, width), experts = wide[0].shape, len(wide[1])
    d, dtype = read(dlogits, accumulation(wide[0].dtype)), wide[0].dtype
    dx, dmeans, dlogs, dpriors = (empty(a.shape, dtype) for a in inputs)
    KERNELS("gaussian_to_tokens", items(dx.size), *wide, d, dx, tokens, experts, width)
    KERNELS("gaussian_to_experts", columns(dmeans.size, tokens), *wide, d, dmeans, dlogs, tokens, experts, width)
    KERNELS("gaussian_to_priors", columns(experts, tokens), d, dpriors, tokens, experts)
    return tuple(like(a, found) for a, found in zip(inputs, (dx, dmeans, dlogs, dpriors), strict=True))


IMPL = Impl(forward, backward)
