"""What an op's record checks before anything is computed."""

import ml_dtypes
import numpy as np
import pytest

from moespec import gates
from moespec.op import Arg, Op, wider

OP = Op("gates.toy", (Arg("x", "T D"), Arg("ids", "T K", "index", of="E", optional=True), Arg("w", "D E"),
                      Arg("offsets", "E+1", "count", optional=True)),
        (Arg("y", "T E", like="attr:dtype"), Arg("loss", "", like="acc")), forward=lambda *arrays, dtype="float32": None)


def arrays(**changes):
    made = {"x": np.zeros((3, 2)), "ids": np.zeros((3, 1), int), "w": np.zeros((2, 4)), "offsets": np.zeros(5, int)} | changes
    return made.values()


def test_dimensions_are_bound_by_name():
    assert vars(OP.bind(*arrays())) == {"T": 3, "D": 2, "K": 1, "E": 4}


@pytest.mark.parametrize(("changes", "error", "message"), [
    ({"w": np.zeros((3, 4))}, ValueError, r"toy: w has shape \(3, 4\), but D must be 2 \(D=2, x has shape \(3, 2\)\)"),
    ({"x": np.zeros(3)}, ValueError, r"toy: x has shape \(3,\), wanted 2 dimensions \(T, D\)"),
    ({"x": None}, ValueError, "toy: x is required"),
    ({"x": [[1.0]]}, TypeError, "toy: x must be an array, got list"),
    ({"x": np.zeros((3, 2), int)}, TypeError, "toy: x has dtype int64, wanted a real floating dtype"),
    ({"x": np.zeros((3, 2), complex)}, TypeError, "toy: x has dtype complex128"),
    ({"ids": np.zeros((3, 1))}, TypeError, "toy: ids has dtype float64, wanted an integer dtype"),
    ({"ids": np.full((3, 1), 4)}, ValueError, r"toy: ids holds 4, outside -1 \.\. 3 \(ids has shape \(3, 1\)\)"),
    ({"ids": np.full((3, 1), -2)}, ValueError, r"toy: ids holds -2, outside -1 \.\. 3"),
    ({"offsets": np.zeros(4, int)}, ValueError, r"toy: offsets has shape \(4,\), but E\+1 must be 5 \(E=4, w has shape \(2, 4\)\)"),
])
def test_errors_name_the_op_the_value_the_limit_and_the_shape(changes, error, message):
    with pytest.raises(error, match=message):
        OP.bind(*arrays(**changes))


def test_output_dtypes():
    y, loss = OP.outputs
    low = {"x": np.dtype("float16"), "w": np.dtype("float16")}
    assert OP.dtype_of(y, low, dtype="float32") == "float32"
    assert OP.dtype_of(y, {"x": np.dtype("float64")}, dtype="float32") == "float64"
    assert OP.dtype_of(loss, low) == "float32"


def test_wider():
    assert wider("float16", ml_dtypes.bfloat16) == "float32"
    assert wider("bfloat16", "bfloat16") == ml_dtypes.bfloat16
    assert wider("float32", "float64") == "float64"


def test_shapes_seen_before_do_not_excuse_values():
    assert vars(OP.bind(*arrays())) == vars(OP.bind(*arrays()))
    with pytest.raises(ValueError, match=r"toy: ids holds 4, outside -1 \.\. 3"):
        OP.bind(*arrays(ids=np.full((3, 1), 4)))
    with pytest.raises(TypeError, match="toy: ids has dtype float64"):
        OP.bind(*arrays(ids=np.zeros((3, 1))))


def test_attributes_that_cannot_be_keys_get_the_words_of_the_op():
    logits = np.zeros((2, 4))
    with pytest.raises(ValueError, match=r"route: score=\['softmax'\] is not one of"):
        gates.route(logits, k=1, score=["softmax"])
    with pytest.raises(ValueError, match=r"norm=\['sum'\] is not one of"):
        gates.route(logits, k=1, norm=["sum"])
    (_, weights), _ = gates.route(logits, k=1, norm="sum", scale=np.array(2.5))
    np.testing.assert_array_equal(weights, 2.5)
