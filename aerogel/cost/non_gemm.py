"""Measure the non-GEMM ops of an encoder layer: attention, activation, normalization.

Of the fused encoder, layers with almost empty matrices are timed. Of ONNX Runtime, whole layers are timed and the cost
of the dense products is subtracted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from aerogel.cost.fit import fit_costs
from aerogel.cost.measure import Stopwatch
from aerogel.cost.model import EncoderShape, non_gemm_features
from aerogel.cost.models import build, pack
from aerogel.errors import require
from aerogel.ops.linear_function import DOMAIN
from aerogel.ops.value_type import VALUE_TYPES

if TYPE_CHECKING:
    import onnx

__all__ = ["dense_encoder", "fused_encoder", "measure_non_gemm", "non_gemm_sample_count"]

# Enough layers to make the fixed cost of a run negligible.
_LAYERS = 4
_SHAPES = (
    EncoderShape(_LAYERS, 384, 1536, 12),
    EncoderShape(_LAYERS, 512, 1024, 8),
    EncoderShape(_LAYERS, 768, 3072, 12),
)
_SIZES = ((1, 16), (1, 128), (2, 128), (1, 384))  # batch, sequence
_EPSILON = 1e-12
# One layer from x to y, as an exported model has it; `_numbered` adds the layer's number to the names.
_LAYER = """
  qp = MatMul (x, wq) qf = Add (qp, b) qs = Reshape (qf, split) q = Transpose <perm = [0, 2, 1, 3]> (qs)
  kp = MatMul (x, wk) kf = Add (kp, b) ks = Reshape (kf, split) k = Transpose <perm = [0, 2, 3, 1]> (ks)
  vp = MatMul (x, wv) vf = Add (vp, b) vs = Reshape (vf, split) v = Transpose <perm = [0, 2, 1, 3]> (vs)
  raw = MatMul (q, k) scaled = Mul (raw, root) masked = Add (scaled, additive) probs = Softmax <axis = -1> (masked)
  mixed = MatMul (probs, v) back = Transpose <perm = [0, 2, 1, 3]> (mixed) merged = Reshape (back, merge)
  op = MatMul (merged, wo) o = Add (op, b) sum1 = Add (o, x)
  mid = LayerNormalization <axis = -1> (sum1, gain, b)
  fp = MatMul (mid, w1) f = Add (fp, c) fd = Div (f, root2) fe = Erf (fd) fo = Add (fe, one) fm = Mul (f, fo)
  a = Mul (fm, half)
  hp = MatMul (a, w2) h = Add (hp, b) sum2 = Add (h, mid)
  y = LayerNormalization <axis = -1> (sum2, gain, b)
"""
_MASK = """
  real = Cast <to = 1> (mask) inverted = Sub (one, real) lowered = Mul (inverted, lowest)
  additive = Unsqueeze (lowered, middle)
"""


def measure_non_gemm(
    watch: Stopwatch,
    variant: str,
    dense_seconds: Callable[[tuple[int, int], int], float] | None,
    advance: Callable[[], None],
) -> list[float]:
    """Costs of `aerogel.cost.model.non_gemm_features`.

    Args:
        watch: times the models.
        variant: "dense" for ONNX Runtime, or the value type of a fused encoder.
        dense_seconds: seconds of a dense product, given its (out, in) and tokens; None for a fused encoder.
        advance: called after each measurement, `non_gemm_sample_count` times.
    """
    random = np.random.default_rng(0)
    fused = dense_seconds is None
    features, seconds = [], []
    for shape in _SHAPES:
        model = fused_encoder(variant, shape, random) if fused else dense_encoder(shape, random)
        timed = watch.load(model, library=fused)
        for batch, sequence in _SIZES:
            x = random.standard_normal((batch, sequence, shape.hidden), np.float32)
            inputs: dict[str, np.ndarray] = {"x": x, "mask": np.ones((batch, sequence), np.int64)}
            # Activations stay in the caches; dense weights do not.
            per_layer = timed.seconds(inputs, cached=fused) / _LAYERS
            if dense_seconds is not None:
                products = sum(dense_seconds(linear, batch * sequence) for linear in shape.linears)
                per_layer = max(per_layer - products, 0.01 * per_layer)
            features.append(non_gemm_features(shape, batch, sequence))
            seconds.append(per_layer)
            advance()
    return list(map(float, fit_costs(np.array(features), np.array(seconds))))


def non_gemm_sample_count() -> int:
    """Number of measurements that `measure_non_gemm` makes."""
    return len(_SHAPES) * len(_SIZES)


def fused_encoder(weights: str, shape: EncoderShape, random: np.random.Generator) -> onnx.ModelProto:
    """An Encoder_v1 node whose matrices are as empty as possible without letting the kernel skip a head or a neuron."""
    helper = require("onnx", "export").helper
    hidden, inner = shape.hidden, shape.inner
    tensors = {
        "gain": np.ones(hidden, np.float32), "bias": np.zeros(hidden, np.float32),
        "wide": np.zeros(inner, np.float32),
    }  # fmt: skip
    inputs, formats = ["x", "mask"], []
    for number, (out, inside) in enumerate(shape.linears):
        mask = np.zeros((out, inside), bool)
        if number in (3, 5):  # o and ffn2 read every head and every neuron
            mask[np.arange(inside) % out, np.arange(inside)] = True
        arrays = pack(mask, (1, 1), weights, random)[0]
        tensors |= {f"{name}{number}": array for name, array in arrays.items()}
        formats.append("csr" + VALUE_TYPES.get(weights).suffix)
        inputs += [*(f"{name}{number}" for name in arrays), "wide" if number == 4 else "bias"]
        inputs += ["gain", "bias"] * (number in (3, 5))
    node = helper.make_node(
        "Encoder_v1", [*inputs[:2], *inputs[2:] * shape.layers], ["y"], domain=DOMAIN, heads=shape.heads,
        epsilon=_EPSILON, activation="gelu", matrices=" ".join(formats * shape.layers), tokens="all",
    )  # fmt: skip
    return build([node], tensors, {"x": hidden}, {"y": hidden}, mask=True)


def dense_encoder(shape: EncoderShape, random: np.random.Generator) -> onnx.ModelProto:
    """The same layers with dense matrices, in standard operators."""
    size = shape.hidden // shape.heads
    tensors = {
        "gain": np.ones(shape.hidden, np.float32), "b": np.zeros(shape.hidden, np.float32),
        "c": np.zeros(shape.inner, np.float32), "root": np.float32(size**-0.5), "root2": np.float32(2**0.5),
        "one": np.float32(1), "half": np.float32(0.5), "lowest": np.float32(np.finfo(np.float32).min),
        "middle": np.array([1, 2]), "split": np.array([0, 0, shape.heads, size]),
        "merge": np.array([0, 0, shape.hidden]),
    }  # fmt: skip
    shared = {*tensors, "additive"}
    nodes = _parsed(_MASK)
    for layer in range(shape.layers):
        for name, (out, inside) in zip(("wq", "wk", "wv", "wo", "w1", "w2"), shape.linears, strict=True):
            weight = random.standard_normal((inside, out), np.float32)
            tensors[f"{name}.{layer}"] = weight / np.float32(inside**0.5)
        for node in _parsed(_LAYER):
            for names in (node.input, node.output):
                for i, name in enumerate(names):
                    names[i] = _numbered(name, layer, shape.layers, shared)
            nodes.append(node)
    return build(
        nodes,
        {k: np.asarray(v) for k, v in tensors.items()},
        {"x": shape.hidden},
        {"y": shape.hidden},
        mask=True,
    )


def _parsed(text: str) -> list[onnx.NodeProto]:
    parser = require("onnx", "export").parser
    return list(parser.parse_graph(f"g () => () {{ {text} }}").node)


def _numbered(name: str, layer: int, layers: int, shared: set[str]) -> str:
    """Name of a tensor in one layer. Shared names stay; others get its number. y of a layer is x of the next."""
    if name in shared:
        return name
    if name == "x":
        return "x" if layer == 0 else f"y.{layer - 1}"
    return "y" if name == "y" and layer == layers - 1 else f"{name}.{layer}"
