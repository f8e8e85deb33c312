"""Arrays that come by DLPack, as what Numba takes: the CUDA array interface of the memory that a capsule describes."""

from __future__ import annotations

import ctypes

import numpy as np

CUDA = 2, 13                    # devices whose memory a kernel reads: CUDA's own, and managed
KINDS = {0: "int", 1: "uint", 2: "float", 4: "bfloat", 6: "bool"}
NO_WAIT = -1                    # the stream that says that nobody has to wait


class Tensor(ctypes.Structure):
    """DLTensor."""

    _fields_ = [("data", ctypes.c_void_p), ("device", ctypes.c_int32), ("device_id", ctypes.c_int32), ("ndim", ctypes.c_int32),
                ("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16), ("shape", ctypes.POINTER(ctypes.c_int64)),
                ("strides", ctypes.POINTER(ctypes.c_int64)), ("offset", ctypes.c_uint64)]


class Lent:
    """Memory of somebody else's, kept alive as long as this is: the capsule gives it back when it is destroyed unused."""

    def __init__(self, capsule):
        self.capsule = capsule
        tensor = Tensor.from_address(_pointer(capsule, b"dltensor"))
        self.dtype = _dtype(tensor)
        shape = tuple(tensor.shape[:tensor.ndim])
        strides = tuple(s * self.dtype.itemsize for s in tensor.strides[:tensor.ndim]) if tensor.strides else None
        stored = np.dtype("uint16") if self.dtype.name == "bfloat16" else self.dtype          # the interface has no name for it
        self.__cuda_array_interface__ = {"shape": shape, "strides": strides, "typestr": stored.str, "version": 3,
                                         "data": ((tensor.data or 0) + tensor.offset, False)}


def lent(array) -> Lent:
    """What an array on a CUDA device gives by DLPack, without waiting for its stream."""
    return Lent(array.__dlpack__(stream=NO_WAIT))


def comes_by_dlpack(array):
    """Whether an array lies where kernels read it, and says so."""
    return hasattr(array, "__dlpack__") and hasattr(array, "__dlpack_device__") and int(array.__dlpack_device__()[0]) in CUDA


def _dtype(tensor):
    name = f"{KINDS.get(tensor.code, 'unknown')}{'' if tensor.code == 6 else tensor.bits}"
    if tensor.lanes != 1 or tensor.code not in KINDS:
        raise TypeError(f"numba-cuda: DLPack's dtype (code {tensor.code}, {tensor.bits} bits, {tensor.lanes} lanes) is none of the specification's")
    return np.dtype(name)


_pointer = ctypes.pythonapi.PyCapsule_GetPointer
_pointer.restype, _pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
