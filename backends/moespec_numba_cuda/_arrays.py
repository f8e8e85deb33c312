"""Arrays of the device: taken from anybody without a copy, allocated, converted."""

from __future__ import annotations

from functools import cache

import ml_dtypes  # noqa: F401  (teaches NumPy the name bfloat16)
import numpy as np

from moespec.numerics import acc
from moespec_numba_cuda._device import cuda, stream
from moespec_numba_cuda._dlpack import comes_by_dlpack, lent
from moespec_numba_cuda._kernel import LETTERS, Kernel, items, kernel

NAMES = {name: letter for letter, name in LETTERS.items()}
_bfloat16 = "bfloat16"


def accept(array):
    """An array of anybody on the device as one of Numba's, without a copy and without waiting for its stream."""
    if array is None or hasattr(array, "copy_to_host"):
        return array
    if "bfloat16" in str(getattr(array, "dtype", "")) or not hasattr(array, "__cuda_array_interface__"):
        if not comes_by_dlpack(array):
            raise TypeError(f"backend 'numba-cuda' works on arrays of the device, "
                            f"got {type(array).__module__}.{type(array).__name__}: convert it yourself")
        found = lent(array)
        return cuda.as_cuda_array(found, sync=False).view(found.dtype)
    return cuda.as_cuda_array(array, sync=False)


def allocate(shape, dtype):
    """Memory; tests put poison here."""
    return cuda.device_array(shape, dtype, stream=stream())


def empty(shape, dtype):
    """Memory for a kernel to write every element of."""
    return allocate(shape, np.dtype(dtype))


def full(shape, value, dtype):
    """Memory that begins as `value`."""
    array = empty(shape, dtype)
    _filler(NAMES[np.dtype(dtype).name])(items(array.size), flat(array), value)
    return array


def zeros(shape, dtype):
    """Memory that a kernel adds into, or leaves 0 in places."""
    return full(shape, 0, dtype)


def flat(array):
    """The same memory in one dimension."""
    return array.reshape(array.size)


def read(array, dtype=None):
    """The array as kernels take it: C-contiguous, of `dtype` if one is given, float16 and bfloat16 as float32; None stays None."""
    if array is None:
        return None
    wanted = np.dtype(array.dtype if dtype is None else dtype)
    if dtype is None and wanted.name in ("float16", _bfloat16):
        wanted = np.dtype("float32")
    return convert(array if array.is_c_contiguous() else _straight(array), wanted)


def _straight(array):
    """A C-contiguous copy; bfloat16 moves as bits."""
    bits = array.view(np.uint16) if array.dtype.name == _bfloat16 else array
    out = empty(bits.shape, bits.dtype)
    letter = NAMES[bits.dtype.name]
    _copier(letter, len(bits.shape))(items(bits.size), bits, out)
    return out.view(array.dtype)


def convert(array, dtype):
    """A C-contiguous array in another dtype, rounded once; the same array if that is its own."""
    source, target = np.dtype(array.dtype), np.dtype(dtype)
    if source == target:
        return array
    if source.name == _bfloat16:
        wide = empty(array.shape, "float32")
        _widen_bfloat16(items(array.size), flat(array).view(np.uint16), flat(wide).view(np.uint32))
        return convert(wide, target)
    out = empty(array.shape, target)
    if target.name == _bfloat16:
        _to_bfloat16(items(array.size), flat(convert(array, "float32")).view(np.uint32), flat(out).view(np.uint16))
    else:
        _converter(NAMES[source.name], NAMES[target.name])(items(array.size), flat(array), flat(out))
    return out


def like(array, result):
    """`result` in the dtype of the input `array`; None where there is none."""
    return None if array is None or result is None else convert(result, array.dtype)


def common(*arrays):
    """The arrays in one dtype, the widest accumulation dtype among them; None stays None."""
    dtype = np.result_type(*(acc(a) for a in arrays if a is not None))
    return [read(a, dtype) for a in arrays]


@cache
def _converter(source, target):
    return Kernel(_convert, f"{source}1 {target}1")


@cache
def _copier(letter, ndim):
    return Kernel({1: _copy_1, 2: _copy_2, 3: _copy_3}[ndim], f"{letter}{ndim}A {letter}{ndim}")


@cache
def _filler(letter):
    return Kernel(_fill, f"{letter}1 {letter}")


def _convert(x, y):
    for i in range(cuda.grid(1), x.shape[0], cuda.gridsize(1)):
        y[i] = x[i]


def _copy_1(x, y):
    for i in range(cuda.grid(1), x.shape[0], cuda.gridsize(1)):
        y[i] = x[i]


def _copy_2(x, y):
    for i in range(cuda.grid(1), x.shape[0] * x.shape[1], cuda.gridsize(1)):
        r, c = i // x.shape[1], i % x.shape[1]
        y[r, c] = x[r, c]


def _copy_3(x, y):
    for i in range(cuda.grid(1), x.shape[0] * x.shape[1] * x.shape[2], cuda.gridsize(1)):
        r, c = i // x.shape[2], i % x.shape[2]
        b, a = r // x.shape[1], r % x.shape[1]
        y[b, a, c] = x[b, a, c]


def _fill(x, value):
    for i in range(cuda.grid(1), x.shape[0], cuda.gridsize(1)):
        x[i] = value


@kernel("h1 w1")
def _widen_bfloat16(x, y):
    """The upper half of a float32."""
    for i in range(cuda.grid(1), x.shape[0], cuda.gridsize(1)):
        y[i] = np.uint32(x[i]) << np.uint32(16)


@kernel("w1 h1")
def _to_bfloat16(x, y):
    """To nearest, ties to even; a NaN stays a quiet one."""
    for i in range(cuda.grid(1), x.shape[0], cuda.gridsize(1)):
        bits = np.uint32(x[i])
        if (bits & np.uint32(0x7FFFFFFF)) > np.uint32(0x7F800000):
            y[i] = np.uint16((bits >> np.uint32(16)) | np.uint32(0x40))
        else:
            half = np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
            y[i] = np.uint16((np.uint64(bits) + np.uint64(half)) >> np.uint64(16))
