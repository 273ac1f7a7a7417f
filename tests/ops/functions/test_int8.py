"""Arithmetic of the int8 functions, with results computed by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from aerogel import runtime
from aerogel.ops.functions import op_for
from aerogel.ops.linear_function import DOMAIN, IR_VERSION, OPSET
from aerogel.sparse.formats import FORMATS

W8 = np.array([[127, 0, -3, 1], [0, 0, 0, 0], [2, 2, 2, 2], [0, -127, 0, 5]], np.int8)
SCALE = np.array([0.5, 1, 2, 0.25], np.float32)
BIAS = np.array([0, 7, -1, 100], np.float32)


@pytest.fixture(params=[("csr", (1, 1)), ("bsr", (1, 4)), ("bsr", (2, 2))], ids=str)
def session(request: pytest.FixtureRequest, tmp_path: Path) -> object:
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    format_name, block = request.param
    function = op_for(format_name, "int8")
    arrays = FORMATS.get(format_name).encode(W8, W8 != 0, block) | {"scale": SCALE, "bias": BIAS}
    node = helper.make_node(function.name, ["x", *arrays], ["y"], domain=DOMAIN, in_features=4)
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4])],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    model = helper.make_model(
        graph,
        functions=[function.proto()],
        ir_version=IR_VERSION,
        opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, 1)],
    )
    onnx.save(model, tmp_path / "m.onnx")
    return runtime.session(tmp_path / "m.onnx")


def run(session: object, *x: float) -> list[float]:
    return session.run(None, {"x": np.array([x], np.float32)})[0][0].tolist()  # type: ignore[attr-defined]


def test_halves_round_to_even(session: object) -> None:
    # The largest entry is 127, so the step is 1: 2.5 becomes 2, 3.5 becomes 4, -0.5 becomes 0.
    y = run(session, 127, 2.5, 3.5, -0.5)
    assert y == [0.5 * (127 * 127 - 3 * 4), 7, 2 * 2 * (127 + 2 + 4) - 1, 0.25 * -127 * 2 + 100]


def test_each_token_has_its_own_scale(session: object) -> None:
    # The largest entry is -254, so the step is 2: 3 is 1.5 steps and becomes 2 steps.
    y = run(session, 0, -254, 3, 0)
    np.testing.assert_allclose(
        y, [0.5 * 2 * -6, 7, 2 * 2 * 2 * (-127 + 2) - 1, 0.25 * 2 * 127 * 127 + 100], rtol=2**-22
    )


def test_zero_token_gives_the_bias(session: object) -> None:
    assert run(session, 0, 0, 0, 0) == BIAS.tolist()


def test_token_below_the_smallest_scale_counts_as_zero(session: object) -> None:
    assert run(session, 1e-30, -1e-30, 0, 1e-25) == BIAS.tolist()
