"""The squared coefficient of variation, which the importance and load losses share."""

from moespec_cupy._kernel import Kernels, empty, one_block

KERNELS = Kernels(__file__, "_cv2.cu")


def cv2(v):
    """A scalar, in the dtype of v."""
    loss = empty((), v.dtype)
    KERNELS("cv2", one_block(), v, loss, v.size)
    return loss


def cv2_backward(v, dloss):
    """In the shape and dtype of v."""
    dv = empty(v.shape, v.dtype)
    KERNELS("cv2_backward", one_block(), v, dloss, dv, v.size)
    return dv
