"""What the Numba kernel of a few tokens takes without looking twice, and what it still refuses."""

import numpy as np
import pytest

from moespec.backend import get_backend, resolve

pytest.importorskip("numba", reason="the extra `numba` is not installed")


def test_a_block_admitted_once_still_refuses_what_it_should():
    """The Numba kernel of a few tokens does not look again at arrays like those that it has seen."""
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(s).astype("float32") for s in ((2, 4), (4, 3), (3, 4, 5), (3, 4, 5), (3, 5, 4))]
    forward = resolve(get_backend("numba"), "experts.moe_block", {"k": 2}).forward
    want = forward(*arrays, k=2)[0]
    with pytest.raises(ValueError, match="k=4"):
        forward(*arrays, k=4)
    with pytest.raises(ValueError, match="w_down has shape"):
        forward(*arrays[:4], arrays[4][:, 1:], k=2)
    with pytest.raises(TypeError, match="w_gate must be an array, got list"):
        forward(*arrays[:2], arrays[2].tolist(), *arrays[3:], k=2)
    none = [None] * 4
    forward(*arrays, *none, np.zeros((2, 2), int))
    with pytest.raises(ValueError, match="indices holds 3, outside -1 .. 2"):
        forward(*arrays, *none, np.full((2, 2), 3))
    np.testing.assert_array_equal(forward(*arrays, k=2)[0].y, want.y)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_block_takes_arrays_of_any_kind_to_the_same_bits(dtype):
    """Read-only, not contiguous or misaligned ones reach the Numba kernel as views or copies."""
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(s).astype(dtype) for s in ((3, 20), (20, 5), (5, 20, 33), (5, 20, 33), (5, 33, 20))]
    forward = resolve(get_backend("numba"), "experts.moe_block", {"k": 2}).forward
    want = forward(*arrays, k=2)[0]
    for change in (_read_only, np.asfortranarray, _misaligned):
        for which in (range(5), (0,), (1,), (4,)):
            given = [change(a) if i in which else a for i, a in enumerate(arrays)]
            for a, b in zip(forward(*given, k=2)[0], want, strict=True):
                np.testing.assert_array_equal(a, b)


def _read_only(array):
    view = array.view()
    view.setflags(write=False)
    return view


def _misaligned(array):
    copy = np.empty(array.nbytes + 1, np.uint8)[1:].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy
