from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import TensorProto, helper, numpy_helper
from scipy.special import ndtr

from aerogel.ops.functions import op_for
from aerogel.ops.linear_function import DOMAIN, IR_VERSION, OPSET
from aerogel.sparse.formats import FORMATS

HIDDEN, HEADS, SIZE, INNER, EPSILON = 24, 3, 5, 44, 1e-5
WIDTH = HEADS * SIZE
MATRICES = {
    "q": (WIDTH, HIDDEN), "k": (WIDTH, HIDDEN), "v": (WIDTH, HIDDEN), "o": (HIDDEN, WIDTH),
    "ffn1": (INNER, HIDDEN), "ffn2": (HIDDEN, INNER),
}  # fmt: skip
PARTS = ["q", "k", "v", "o", "gamma1", "beta1", "ffn1", "ffn2", "gamma2", "beta2"]

Function = Callable[[np.ndarray], np.ndarray]
ACTIVATIONS: dict[str, tuple[Function, str]] = {
    "gelu": (
        lambda x: x * ndtr(x),
        "@s = Mul (@f, root) @e = Erf (@s) @p = Add (@e, one) @t = Mul (@f, @p) @a = Mul (@t, half)",
    ),
    "gelu_tanh": (
        lambda x: x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
        "@3 = Pow (@f, three) @c = Mul (@3, cube) @d = Add (@f, @c) @s = Mul (@d, tanh_scale) @e = Tanh (@s) "
        "@p = Add (@e, one) @t = Mul (@f, @p) @a = Mul (@t, half)",
    ),
    "relu": (lambda x: np.maximum(x, 0), "@a = Relu (@f)"),
}
BODY = f"""
  one = Constant <value_float = 1.0> () half = Constant <value_float = 0.5> ()
  three = Constant <value_float = 3.0> () cube = Constant <value_float = 0.044715> ()
  root = Constant <value_float = 0.70710678> () tanh_scale = Constant <value_float = 0.79788456> ()
  lowest = Constant <value_float = -3.4e38> () axes = Constant <value_ints = [1, 2]> ()
  last = Constant <value_ints = [2]> () part = Constant <value_float = {SIZE**-0.5}> ()
  split = Constant <value_ints = [0, 0, {HEADS}, {SIZE}]> () merge = Constant <value_ints = [0, 0, {WIDTH}]> ()
  known = Cast <to = 9> (mask) real = Cast <to = 1> (known) padding = Sub (one, real)
  lowered = Mul (padding, lowest) added = Unsqueeze (lowered, axes) kept = Unsqueeze (real, last)
"""


def matrix(
    random: np.random.Generator, word: str, shape: tuple[int, int]
) -> tuple[dict[str, np.ndarray], Function]:
    """Return the tensors of a matrix, in the operator's order, and its float64 product."""
    form, _, weights = word.partition("-")
    mask = random.random(shape) < (1 if form == "dense" else 0.4)
    weight = (0.3 * random.standard_normal(shape) * mask).astype(np.float32)
    bias = (0.1 * random.standard_normal(shape[0])).astype(np.float32)
    if form == "dense":
        return {"data": weight.T.copy(), "bias": bias}, lambda x: x @ weight.T.astype(np.float64) + bias
    stored, scale = weight, np.ones(shape[0], np.float32)
    if weights == "fp16":
        stored = weight.astype(np.float16)
    if weights == "int8":
        scale = random.uniform(0.004, 0.008, shape[0]).astype(np.float32)
        stored = np.clip(np.rint(weight / scale[:, None]), -127, 127).astype(np.int8)

    def apply(x: np.ndarray) -> np.ndarray:
        if weights == "int8":
            x = x.astype(np.float32)
            m = np.maximum(np.abs(x).max(-1, keepdims=True, initial=0), np.float32(1e-20))
            x = np.rint(x * (np.float32(127) / m)) * (m.astype(np.float64) / 127)
        product: np.ndarray = x @ stored.T.astype(np.float64) * scale + bias
        return product

    arrays = FORMATS.get(form).encode(stored, mask, (4, 1) if form == "bsr" and shape[0] % 4 == 0 else (1, 1))
    return {**arrays, **({"scale": scale} if weights == "int8" else {}), "bias": bias}, apply


def normalize(x: np.ndarray, gamma: np.ndarray, beta: np.ndarray) -> np.ndarray:
    centred = x - x.mean(-1, keepdims=True)
    scaled: np.ndarray = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + EPSILON) * gamma + beta
    return scaled


class Encoder:
    """A small Encoder_v1 with random weights. `words` has the formats of six matrices per layer.

    Attributes:
        tensors: tensors by name, such as ``layer0_q_data``. Change them before `model`.
    """

    hidden = HIDDEN

    def __init__(self, words: str, activation: str = "gelu") -> None:
        random = np.random.default_rng(len(words))
        self.words, self.activation = words.split(), activation
        self.layers: list[dict[str, Any]] = []
        self.tensors: dict[str, np.ndarray] = {}
        remaining = iter(self.words)
        for number in range(len(self.words) // 6):
            self.layers.append({})
            for part in PARTS:
                name = f"layer{number}_{part}"
                if part in MATRICES:
                    arrays, apply = matrix(random, next(remaining), MATRICES[part])
                    self.tensors |= {f"{name}_{role}": array for role, array in arrays.items()}
                    self.layers[-1][part] = apply
                else:
                    vector = part.startswith("gamma") + 0.2 * random.standard_normal(HIDDEN)
                    self.tensors[name] = self.layers[-1][part] = vector.astype(np.float32)

    def apply(self, hidden: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """Compute y in float64 from the real tokens of each sequence."""
        y = np.zeros(hidden.shape)
        for row, real in enumerate(mask != 0):
            x = hidden[row, real].astype(np.float64)
            for layer in self.layers if len(x) else ():
                q, k, v = (layer[name](x).reshape(len(x), HEADS, SIZE).swapaxes(0, 1) for name in "qkv")
                scores = q @ k.swapaxes(1, 2) / np.sqrt(SIZE)
                weights = np.exp(scores - scores.max(-1, keepdims=True))
                weights /= weights.sum(-1, keepdims=True)
                context = (weights @ v).swapaxes(0, 1).reshape(len(x), WIDTH)
                x = normalize(x + layer["o"](context), layer["gamma1"], layer["beta1"])
                inner = ACTIVATIONS[self.activation][0](layer["ffn1"](x))
                x = normalize(x + layer["ffn2"](inner), layer["gamma2"], layer["beta2"])
            y[row, real] = x
        return y

    def model(self, *, body: bool = False, fed: tuple[str, ...] = (), **attributes: Any) -> bytes:
        """Make a model of one node. Tensors in `fed` become graph inputs; attributes set to None are omitted."""
        stated: dict[str, Any] = {
            "heads": HEADS, "epsilon": EPSILON, "activation": self.activation, "matrices": " ".join(self.words),
            "tokens": "all",
        }  # fmt: skip
        stated = {name: value for name, value in (stated | attributes).items() if value is not None}
        inputs = [
            helper.make_tensor_value_info("hidden", TensorProto.FLOAT, ["batch", "sequence", None]),
            helper.make_tensor_value_info("mask", TensorProto.INT64, ["batch", "sequence"]),
        ]
        for name in fed:
            dtype = helper.np_dtype_to_tensor_dtype(self.tensors[name].dtype)
            inputs.append(helper.make_tensor_value_info(name, dtype, [None] * self.tensors[name].ndim))
        graph = helper.make_graph(
            [
                helper.make_node(
                    "Encoder_v1", ["hidden", "mask", *self.tensors], ["y"], domain=DOMAIN, **stated
                )
            ],
            "one_encoder",
            inputs,
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
            [numpy_helper.from_array(array, name) for name, array in self.tensors.items() if name not in fed],
        )
        model = helper.make_model(
            graph,
            functions=[self.function(), *self._carriers().values()] if body else [],
            opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, 1)],
            ir_version=IR_VERSION,
        )
        return bytes(model.SerializeToString())

    def _carriers(self) -> dict[str, onnx.FunctionProto]:
        packed = {word: word.partition("-") for word in self.words if word != "dense"}
        return {word: op_for(form, weights or "fp32").proto() for word, (form, _, weights) in packed.items()}

    def function(self) -> onnx.FunctionProto:
        """Encoder_v1 as standard operators and functions of single matrices."""
        lines, words = [BODY], iter(self.words)
        for number in range(len(self.layers)):

            def product(part: str, x: str, y: str, at: str = f"layer{number}_{{}}_") -> str:
                word, names = next(words), [name for name in self.tensors if name.startswith(at.format(part))]
                if word == "dense":
                    return f"{y}_p = MatMul ({x}, {names[0]}) {y} = Add ({y}_p, {names[1]})"
                name, width = self._carriers()[word].name, MATRICES[part][1]
                return f"{y} = {DOMAIN}.{name} <in_features = {width}> ({x}, {', '.join(names)})"

            x, y = f"x{number}" if number else "hidden", f"x{number + 1}"
            heads = [
                f"{product(part, x, f'@{part}')} @{part}s = Reshape (@{part}, split) "
                f"@{part}h = Transpose <perm = [{order}]> (@{part}s)"
                for part, order in (("q", "0, 2, 1, 3"), ("k", "0, 2, 3, 1"), ("v", "0, 2, 1, 3"))
            ]
            norm = f"LayerNormalization <epsilon = {EPSILON}>"
            layer = [
                *heads,
                "@w = MatMul (@qh, @kh) @ws = Mul (@w, part) @wm = Add (@ws, added) @wp = Softmax (@wm)",
                "@m = MatMul (@wp, @vh) @mt = Transpose <perm = [0, 2, 1, 3]> (@m) @c = Reshape (@mt, merge)",
                product("o", "@c", "@o"),
                f"@r = Add ({x}, @o) @x = {norm} (@r, #gamma1, #beta1)",
                product("ffn1", "@x", "@f"),
                ACTIVATIONS[self.activation][1].replace("@c", "@cc"),
                product("ffn2", "@a", "@h"),
                f"@z = Add (@x, @h) {y} = {norm} (@z, #gamma2, #beta2)",
            ]
            lines += [line.replace("@", f"l{number}_").replace("#", f"layer{number}_") for line in layer]
        lines.append(f"y = Mul (x{len(self.layers)}, kept)")
        return onnx.parser.parse_function(
            f'<domain: "{DOMAIN}", opset_import: ["" : {OPSET}, "{DOMAIN}" : 1]>\n'
            f"Encoder_v1 <heads, epsilon, activation, matrices> (hidden, mask, {', '.join(self.tensors)}) => (y) {{\n"
            + "\n".join(lines)
            + "\n}"
        )


@pytest.fixture
def encoder() -> type[Encoder]:
    return Encoder
