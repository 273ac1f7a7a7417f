from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

WIDTH, INNER, VOCAB = 8, 12, 30


@pytest.fixture
def layer_model(tmp_path: Path) -> Callable[[], Path]:
    """Factory of a model with what encoders have: LayerNorm, two products with bias, GELU, a mean over tokens."""

    def make() -> Path:
        random = np.random.default_rng(3)

        def normal(*shape: int) -> np.ndarray:
            return random.standard_normal(shape, np.float32)

        arrays = {
            "table": normal(VOCAB, WIDTH), "gamma": normal(WIDTH), "beta": normal(WIDTH),
            "w1": normal(WIDTH, INNER), "b1": normal(INNER), "w2": normal(INNER, WIDTH), "b2": normal(WIDTH),
            "root": np.array(np.sqrt(2), np.float32), "one": np.array(1, np.float32),
            "half": np.array(0.5, np.float32), "axes": np.array([1]), "width": np.array([WIDTH]),
        }  # fmt: skip
        nodes = [
            helper.make_node("Gather", ["table", "input_ids"], ["x"]),
            helper.make_node("LayerNormalization", ["x", "gamma", "beta"], ["n"], axis=-1, epsilon=1e-3),
            helper.make_node("MatMul", ["n", "w1"], ["p1"]),
            helper.make_node("Add", ["b1", "p1"], ["h"]),
            helper.make_node("Div", ["h", "root"], ["d"]),
            helper.make_node("Erf", ["d"], ["e"]),
            helper.make_node("Add", ["one", "e"], ["f"]),
            helper.make_node("Mul", ["h", "f"], ["g"]),
            helper.make_node("Mul", ["half", "g"], ["gelu"]),
            helper.make_node("MatMul", ["gelu", "w2"], ["p2"]),
            helper.make_node("Add", ["p2", "b2"], ["y"]),
            helper.make_node("Add", ["y", "n"], ["residual"]),
            # The batch, where the file does not fix it.
            helper.make_node("Shape", ["residual"], ["rows"], start=0, end=1),
            helper.make_node("Concat", ["rows", "width"], ["shape"], axis=0),
            helper.make_node("ReduceMean", ["residual", "axes"], ["mean"], keepdims=1),
            helper.make_node("Reshape", ["mean", "shape"], ["logits"], allowzero=1),
        ]
        graph = helper.make_graph(
            nodes,
            "layer",
            [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "sequence"])],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", WIDTH])],
            [numpy_helper.from_array(array, name) for name, array in arrays.items()],
        )
        model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 18)])
        path = tmp_path / "layer.onnx"
        onnx.save(model, path)
        (tmp_path / "config.json").write_text(f'{{"vocab_size": {VOCAB}}}')
        return path

    return make
