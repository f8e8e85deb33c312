"""Matrix products inside kernels: the BLAS that SciPy ships, called without the interpreter.

The routines are bound by symbol name, so that compiled code can be kept on disk.
"""

import llvmlite.binding
import scipy.linalg.cython_blas  # noqa: F401  (loads the library whose routines are bound below)
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.errors import TypingError
from numba.extending import get_cython_function_address, intrinsic

ROUTINES = {types.float32: "sgemm", types.float64: "dgemm"}
for _name in ROUTINES.values():
    llvmlite.binding.add_symbol(f"moespec_{_name}", get_cython_function_address("scipy.linalg.cython_blas", _name))


@intrinsic
def gemm(typing, turn_a, turn_b, a, b, beta, c):
    """c = op(a) op(b) + beta c on matrices whose rows are contiguous; `turn_a`, `turn_b`: transpose.  Beta 0 does not read c.

    BLAS is column-major: it is asked for c^T = op(b)^T op(a)^T.
    """
    if a.dtype not in ROUTINES or not a.dtype == b.dtype == c.dtype or {a.ndim, b.ndim, c.ndim} != {2}:
        raise TypingError(f"gemm takes matrices of one dtype, float32 or float64, not {a}, {b}, {c}")

    def generate(context, builder, signature, arguments):
        (type_a, type_b, type_c), (turn_a, turn_b, a, b, beta, c) = signature.args[2:4] + signature.args[5:], arguments
        a, b, c = (context.make_array(t)(context, builder, value) for t, value in ((type_a, a), (type_b, b), (type_c, c)))
        rows, columns = cgutils.unpack_tuple(builder, c.shape)
        inner = builder.select(turn_a, *cgutils.unpack_tuple(builder, a.shape))
        int32, char, real = ir.IntType(32), ir.IntType(8), a.data.type.pointee

        def integer(value):
            return cgutils.alloca_once_value(builder, builder.trunc(value, int32))

        def turned(flag):
            return cgutils.alloca_once_value(builder, builder.select(flag, char(ord("T")), char(ord("N"))))

        def stride(array):                                      # of a row, in elements; that of an empty array means nothing
            size = builder.udiv(builder.extract_value(array.strides, 0), array.itemsize)
            for least in (builder.extract_value(array.shape, 1), size.type(1)):
                size = builder.select(builder.icmp_unsigned("<", size, least), least, size)
            return integer(size)

        one = cgutils.alloca_once_value(builder, ir.Constant(real, 1.0))
        handed = [turned(turn_b), turned(turn_a), integer(columns), integer(rows), integer(inner), one, b.data, stride(b),
                  a.data, stride(a), cgutils.alloca_once_value(builder, beta), c.data, stride(c)]
        type_ = ir.FunctionType(ir.VoidType(), [argument.type for argument in handed])
        builder.call(cgutils.get_or_insert_function(builder.module, type_, f"moespec_{ROUTINES[type_a.dtype]}"), handed)
        return context.get_dummy_value()

    return types.none(types.boolean, types.boolean, a, b, a.dtype, c), generate
