from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx
import onnx.checker
import onnx_ir as ir
import onnxruntime
import pytest

from aerogel.ops.functions import op_for
from aerogel.ops.linear_function import DOMAIN
from aerogel.sparse.formats import FORMATS

CONSTANTS = """
  int64[2] axes = {1, 2}, int64[2] query_axes = {1, 3}, int64[4] copied = {0, 0, 2, 2},
  int64[4] copied_heads = {0, 0, 2, -1}, int64[4] copied_batch = {0, -1, 2, 2}, int64[3] copied_merged = {0, 0, 4},
  int64[1] minus_one = {-1}, int64[1] two = {2}, int64[1] four = {4},
  float one = {1}, float half = {0.5}, float lowest = {-3.4028234663852886e38}, float minus_inf = {-1e4},
  float root = {0.70710678}, float root2 = {1.41421356}, float fourth_root = {0.8408964}, float three = {3},
  float tanh_scale = {0.79788456}, float tanh_cube = {0.044715}, float[2] pair = {0.7, 0.7}
"""
# The mask and the target shapes of reshapes, for all layers.
SHARED = {
    "batch": "batch = Shape <start = 0, end = 1> (x)",
    "length": "length = Shape <start = 1, end = 2> (attention_mask)",
    "split": "split = Concat <axis = 0> (batch, length, minus_one, two)",
    "merge": "merge = Concat <axis = 0> (batch, length, minus_one)",
    "wide": "wide = Unsqueeze (attention_mask, axes)",
    "real": "real = Cast <to = 1> (wide)",
    "inverted": "inverted = Sub (one, real)",
    "mask": "mask = Mul (inverted, lowest)",
}
# One layer from x to y, one line for each result.
LAYER = {
    "qf": "qf = aerogel.CsrLinear_v1 <in_features = 4> (x, wq_data, wq_indices, wq_indptr, bq)",
    "qs": "qs = Reshape (qf, split)",
    "q": "q = Transpose <perm = [0, 2, 1, 3]> (qs)",
    "kp": "kp = MatMul (x, wk)",
    "kf": "kf = Add (kp, bk)",
    "ks": "ks = Reshape (kf, split)",
    "k": "k = Transpose <perm = [0, 2, 3, 1]> (ks)",
    "vp": "vp = MatMul (x, wv)",
    "vf": "vf = Add (vp, bv)",
    "vs": "vs = Reshape (vf, split)",
    "v": "v = Transpose <perm = [0, 2, 1, 3]> (vs)",
    "scores": "scores = MatMul (q, k)",
    "scaled": "scaled = Mul (scores, root)",
    "masked": "masked = Add (scaled, mask)",
    "probs": "probs = Softmax <axis = -1> (masked)",
    "mixed": "mixed = MatMul (probs, v)",
    "back": "back = Transpose <perm = [0, 2, 1, 3]> (mixed)",
    "merged": "merged = Reshape (back, merge)",
    "op": "op = MatMul (merged, wo)",
    "o": "o = Add (op, bo)",
    "sum1": "sum1 = Add (o, x)",
    "x1": "x1 = LayerNormalization <epsilon = 0.001, axis = -1> (sum1, g1, b1)",
    "fp": "fp = MatMul (x1, w1)",
    "f": "f = Add (fp, c1)",
    "a": "a = Relu (f)",
    "hp": "hp = MatMul (a, w2)",
    "h": "h = Add (hp, c2)",
    "sum2": "sum2 = Add (h, x1)",
    "y": "y = LayerNormalization <epsilon = 0.001, axis = -1> (sum2, g2, b2)",
}
SHAPES = {
    "bq": (4,), "wk": (4, 4), "bk": (4,), "wv": (4, 4), "bv": (4,), "wo": (4, 4), "bo": (4,), "g1": (4,), "b1": (4,),
    "w1": (4, 6), "c1": (6,), "w2": (6, 4), "c2": (4,), "g2": (4,), "b2": (4,),
}  # fmt: skip

# Shapes that the fusion needs; a captured graph has all shapes.
KNOWN = {name: ("batch", "length", 4) for name in ("qf", "kf", "vf")} | {
    "back": ("batch", "length", 2, 2),
    "probs": ("batch", 2, "length", "length"),
}
TYPES = {"float32": "float", "uint16": "uint16", "int32": "int32"}

Change = Mapping[str, str]


@pytest.fixture
def encoder_graph() -> Callable[..., ir.Model]:
    """Factory of graphs of small layers: hidden 4, two heads, inner 6, q's matrix packed.

    ``encoder_graph({"scaled": "", "k": "..."}, {})`` has two layers; each dictionary replaces lines of `LAYER` or
    `SHARED` by the name of the result, and all layers have the same random weights. `outputs` are additional graph
    outputs, results of the first layer, by name and type.
    """

    def make(
        *layers: Change, outputs: Mapping[str, str] | None = None, opset: int = 18, inputs: str = ""
    ) -> ir.Model:
        changes = layers or ({},)
        lines = [changes[0].get(name, line) for name, line in SHARED.items()]
        for number, change in enumerate(changes):
            suffix = f"_{number}" if number < len(changes) - 1 else ""
            before = f"y_{number - 1}" if number else "x"
            lines += [_renamed(change.get(name, line), before, suffix) for name, line in LAYER.items()]
        results = ", ".join(
            [
                "float[batch, length, 4] y",
                *(f"{type_text} {name}" for name, type_text in (outputs or {}).items()),
            ]
        )
        named = "".join(f", float[batch, length, 4] y_{number}" for number in range(len(changes) - 1))
        model = ir.from_onnx_text(
            f'<ir_version: 8, opset_import: ["" : {opset}, "{DOMAIN}" : 1]>\n'
            f"g (float[batch, length, 4] x, int64[batch, length] attention_mask{inputs}) => ({results})\n"
            f"<{CONSTANTS}, {_weights()}{named}> {{\n" + "\n".join(lines) + "\n}"
        )
        for node in model.graph:
            # As in an export: nodes have the names of their results.
            node.name = f"n_{node.outputs[0].name}"
            if shape := KNOWN.get(str(node.outputs[0].name).partition("_")[0]):
                node.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
                node.outputs[0].shape = ir.Shape(shape)
        function = ir.serde.deserialize_function(op_for("csr").proto())
        model.functions[function.identifier()] = function
        return model

    return make


def _renamed(line: str, before: str, suffix: str) -> str:
    """A line of `LAYER` for a layer with input `before`; the names of its results get `suffix`."""
    words = line.replace("(", "( ").replace(")", " )").replace(",", " ,").split(" ")
    own = {*LAYER, *(word for word in words if word.startswith("t_"))} - {"x"}
    return " ".join(before if word == "x" else word + suffix if word in own else word for word in words)


def _weights() -> str:
    """Initializers of one layer, in ONNX's text syntax."""
    random = np.random.default_rng(0)
    weight = random.standard_normal((4, 4)).astype(np.float32)
    packed = FORMATS.get("csr").encode(weight, random.random((4, 4)) < 0.5)
    arrays: dict[str, np.ndarray] = {f"wq_{name}": array for name, array in packed.items()}
    arrays |= {name: random.standard_normal(shape).astype(np.float32) for name, shape in SHAPES.items()}
    return ", ".join(
        f"{TYPES[array.dtype.name]}{list(array.shape)} {name} = {{{', '.join(map(str, array.ravel()))}}}"
        for name, array in arrays.items()
    )


@pytest.fixture
def inputs() -> Sequence[dict[str, np.ndarray]]:
    """Inputs of `encoder_graph`: one token, several texts, padding at the end, and masks with holes."""
    random = np.random.default_rng(1)
    masks = [[[1]], [[1, 1, 1], [1, 0, 0]], [[1, 1, 1, 1, 1], [0, 1, 0, 1, 1], [1, 0, 0, 0, 1]]]
    return [
        {
            "x": random.standard_normal((*np.shape(mask), 4)).astype(np.float32),
            "attention_mask": np.array(mask, np.int64),
        }
        for mask in masks
    ]


@pytest.fixture
def run_graph(inputs: Sequence[dict[str, np.ndarray]]) -> Callable[..., list[np.ndarray]]:
    """Function that runs a graph on stock ONNX Runtime, on `inputs` or on given feeds; returns y of each."""

    def run(model: ir.Model, feeds: Sequence[dict[str, np.ndarray]] = inputs) -> list[np.ndarray]:
        proto = ir.to_proto(model)
        onnx.checker.check_model(proto, full_check=True)
        session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
        names = {value.name for value in session.get_inputs()}
        return [session.run(["y"], {name: feed[name] for name in names})[0] for feed in feeds]

    return run


@pytest.fixture
def same_results(
    inputs: Sequence[dict[str, np.ndarray]], run_graph: Callable[..., list[np.ndarray]]
) -> Callable[..., None]:
    """Function that checks that two graphs agree at real tokens, and that the second gives zeros at padding."""

    def check(before: ir.Model, after: ir.Model, *, zeros: bool = True) -> None:
        for feed, expected, got in zip(inputs, run_graph(before), run_graph(after), strict=True):
            real = feed["attention_mask"] == 1
            np.testing.assert_allclose(got[real], expected[real], rtol=0, atol=1e-6 * np.abs(expected).max())
            assert not zeros or not got[~real].any()

    return check
