"""What the scores share that judge every logit on its own."""

from moespec.program import Impl
from moespec_cupy._admit import admit
from moespec_cupy._kernel import Kernels, empty, items, read

KERNELS = Kernels(__file__, "_scores.cu")
KINDS = {name: i for i, name in enumerate(("softmax", "sigmoid", "sqrt_softplus"))}        # as in scores.cuh


def scored(name):
    """The implementation of the score `name`; called selected_..., that of the chosen logits alone."""
    kind = KINDS[name.removeprefix("selected_")]

    def forward(logits, *indices):
        admit(f"gates.{name}", logits, *indices)
        x, ids, scores = read(logits), read(indices[0], "int64") if indices else None, empty(logits.shape, logits.dtype)
        KERNELS("score", items(x.size), x, ids, scores, x.size, kind)
        return scores, (x, ids)

    def backward(saved, dscores):
        dlogits = empty(dscores.shape, dscores.dtype)
        KERNELS("score_backward", items(dlogits.size), *saved, read(dscores), dlogits, dlogits.size, kind)
        return dlogits

    return Impl(forward, backward)
