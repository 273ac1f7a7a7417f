from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from aerogel.export.fusions._attention import added_mask
from aerogel.export.fusions._graph import Mismatch
from aerogel.export.pattern import canonicalize

# Each makes `masked` of `scores` and attention_mask [batch, sequence]; the shapes of torch.onnx, optimum and others.
MASKS = {
    "ours": "u = Unsqueeze (m, axes) r = Cast <to = 1> (u) i = Sub (one, r) a = Mul (i, lowest) "
    "masked = Add (scores, a)",
    "ten thousand": "r = Cast <to = 1> (m) u = Unsqueeze (r, axes) i = Sub (one, u) a = Mul (i, many) "
    "masked = Add (a, scores)",
    "minus infinity": "b = Cast <to = 9> (m) u = Unsqueeze (b, axes) a = Where (u, zero, minus_inf) "
    "masked = Add (scores, a)",
    "expanded": "s = Shape (scores) b = Equal (m, none) u = Unsqueeze (b, axes) e = Expand (u, s) "
    "masked = Where (e, lowest, scores)",
    "chosen where real": "b = Cast <to = 9> (m) u = Unsqueeze (b, axes) masked = Where (u, scores, lowest)",
    "of queries too": "r = Cast <to = 1> (m) k = Unsqueeze (r, axes) q = Unsqueeze (r, query_axes) kq = Mul (k, q) "
    "i = Sub (one, kq) a = Mul (i, lowest) masked = Add (scores, a)",
    "gathered": "n = Shape <start = 1, end = 2> (m) t = Squeeze (n) keys = Range (first, t, step) "
    "g = Gather <axis = 1> (m, keys) b = Cast <to = 9> (g) u = Unsqueeze (b, axes) a = Where (u, zero, lowest) "
    "masked = Add (scores, a)",
}
COUNTED = (
    "c = ReduceSum <keepdims = 1> (m, last) n = Shape <start = 1, end = 2> (m) t = Squeeze (n) "
    "keys = Range (first, t, step) l = Less (keys, c) u = Unsqueeze (l, axes) a = Where (u, zero, lowest) "
    "masked = Add (scores, a)"
)
OTHERS = {
    "too small": "u = Unsqueeze (m, axes) r = Cast <to = 1> (u) i = Sub (one, r) a = Mul (i, few) "
    "masked = Add (scores, a)",
    "inverted": "u = Unsqueeze (m, axes) r = Cast <to = 1> (u) a = Mul (r, lowest) masked = Add (scores, a)",
    "not zero at real keys": "u = Unsqueeze (m, axes) r = Cast <to = 1> (u) i = Sub (two, r) a = Mul (i, lowest) "
    "masked = Add (scores, a)",
    "of queries only": "u = Unsqueeze (m, query_axes) r = Cast <to = 1> (u) i = Sub (one, r) a = Mul (i, lowest) "
    "masked = Add (scores, a)",
    "causal": "n = Shape <start = 1, end = 2> (m) t = Squeeze (n) keys = Range (first, t, step) "
    "q = Unsqueeze (keys, last) f = LessOrEqual (keys, q) u = Unsqueeze (m, axes) b = Cast <to = 9> (u) "
    "both = And (f, b) a = Where (both, zero, lowest) masked = Add (scores, a)",
    "window of 64": "n = Shape <start = 1, end = 2> (m) t = Squeeze (n) keys = Range (first, t, step) "
    "q = Unsqueeze (keys, last) d = Sub (keys, q) e = Abs (d) f = Less (e, window) u = Unsqueeze (m, axes) "
    "b = Cast <to = 9> (u) both = And (f, b) a = Where (both, zero, lowest) masked = Add (scores, a)",
    "of ids": "u = Unsqueeze (input_ids, axes) r = Cast <to = 9> (u) a = Where (r, zero, lowest) "
    "masked = Add (scores, a)",
    "of another text": "r = Gather <axis = 0> (m, zeros) u = Unsqueeze (r, axes) b = Cast <to = 9> (u) "
    "a = Where (b, zero, lowest) masked = Add (scores, a)",
    "not masked": "masked = Where (flag, lowest, scores)",
}


def graph(body: str, after: str = "p = Softmax <axis = -1> (masked)", mask_type: str = "int64") -> ir.Model:
    model = ir.from_onnx_text(
        f"""<ir_version: 8, opset_import: ["" : 18]>
        g (int64[batch, sequence] input_ids, {mask_type}[batch, sequence] attention_mask,
           float[batch, 2, sequence, sequence] scores) => (float[batch, 2, sequence, sequence] p)
        <int64[2] axes = {{1, 2}}, int64[2] query_axes = {{1, 3}}, float one = {{1}}, float two = {{2}},
         float zero = {{0}}, float lowest = {{-3.4028234663852886e38}}, float many = {{-10000}}, float few = {{-1000}},
         float minus_inf = {{-inf}}, int64 none = {{0}}, int64 first = {{0}}, int64 step = {{1}}, int64[1] last = {{1}},
         int64 window = {{64}}, int64[1] zeros = {{0}}, bool flag = {{1}}>
        {{ m = Identity (attention_mask) {body} {after} }}"""
    )
    for node in model.graph:
        if node.outputs[0].name == "p":
            node.outputs[0].shape = ir.Shape(["batch", 2, "sequence", "sequence"])
    return model


def mask_of(model: ir.Model) -> ir.Value:
    """The mask that the fusions find for the only Softmax."""
    (softmax,) = (node for node in model.graph if node.op_type == "Softmax")
    add = softmax.inputs[0].producer()
    assert add is not None
    return added_mask(add)[0]


@pytest.mark.parametrize("name", MASKS)
def test_masks_of_the_keys_are_found(name: str) -> None:
    model = graph(MASKS[name])
    canonicalize(model)
    assert mask_of(model) is model.graph.inputs[1]


def test_a_mask_that_counts_tokens_is_found() -> None:
    model = graph(COUNTED)
    canonicalize(model)
    mask = mask_of(model)
    assert mask.producer() is not None
    assert mask.dtype == ir.DataType.INT64


@pytest.mark.parametrize("mask_type", ["int32", "bool"])
def test_masks_of_other_types_become_int64(mask_type: str) -> None:
    model = graph(MASKS["chosen where real"], mask_type=mask_type)
    canonicalize(model)
    assert mask_of(model).dtype == ir.DataType.INT64


@pytest.mark.parametrize("name", OTHERS)
def test_other_masks_stay(name: str) -> None:
    model = graph(OTHERS[name])
    before = [node.op_type for node in model.graph]
    canonicalize(model)
    assert [node.op_type for node in model.graph] == before
    (softmax,) = (node for node in model.graph if node.op_type == "Softmax")
    add = softmax.inputs[0].producer()
    assert add is not None
    with pytest.raises(Mismatch):
        added_mask(add)


@pytest.mark.parametrize(("body", "dropped"), [(MASKS["minus infinity"], True), (OTHERS["causal"], False)])
def test_guards_against_rows_without_keys_go(body: str, dropped: bool) -> None:
    guard = "s = Softmax <axis = -1> (masked) n_ = IsNaN (s) w = Where (n_, zero, s) p = Identity (w)"
    model = graph(body, guard)
    for node in model.graph:
        if node.op_type == "Softmax":
            node.outputs[0].shape = ir.Shape(["batch", 2, "sequence", "sequence"])
    canonicalize(model)
    assert ("IsNaN" not in {node.op_type for node in model.graph}) == dropped


def test_all_layers_share_one_mask() -> None:
    # The second Softmax reads the sum of the first and a mask of its own.
    second = (
        "p1 = Softmax <axis = -1> (masked) b2 = Cast <to = 9> (m) u2 = Unsqueeze (b2, axes) "
        "a2 = Where (u2, zero, lowest) masked2 = Add (p1, a2) p = Softmax <axis = -1> (masked2)"
    )
    model = graph(MASKS["minus infinity"], second)
    for node in model.graph:
        if node.op_type == "Softmax":
            node.outputs[0].shape = ir.Shape(["batch", 2, "sequence", "sequence"])
    canonicalize(model)
    first, last = (node.inputs[0].producer() for node in model.graph if node.op_type == "Softmax")
    assert first is not None
    assert last is not None
    assert first.inputs[1] is last.inputs[1]
    assert np.count_nonzero([node.op_type == "Sub" for node in model.graph]) == 1


@pytest.mark.parametrize(("batch", "sequence"), [("2", "7"), ("batch", "7"), ("1", "sequence")])
@pytest.mark.parametrize(("body", "found"), [(MASKS["minus infinity"], True), (OTHERS["causal"], False)])
def test_masks_of_fixed_dimensions_are_found(batch: str, sequence: str, body: str, found: bool) -> None:
    model = graph(body)
    for value in model.graph.inputs[:2]:
        value.shape = ir.Shape([int(size) if size.isdigit() else size for size in (batch, sequence)])
    canonicalize(model)
    if found:
        assert mask_of(model) is model.graph.inputs[1]
    else:
        with pytest.raises(Mismatch):
            mask_of(model)
