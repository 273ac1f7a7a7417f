from __future__ import annotations

import onnx_ir as ir
import pytest

from aerogel.export.dims import Dim, Dims, name_inputs

# What computes y from x [batch, sequence, 8], and the dimensions of y.
GRAPHS: dict[str, tuple[str, list[Dim]]] = {
    "split of known sizes": ("t = Concat <axis = 0> (b, n, two, four) y = Reshape (x, t)", ["batch", "sequence", 2, 4]),
    "inferred heads": ("t = Concat <axis = 0> (b, n, least, four) y = Reshape (x, t)", ["batch", "sequence", 2, 4]),
    "inferred sequence": (
        "t = Concat <axis = 0> (b, least, two, four) y = Reshape (x, t)", ["batch", "sequence", 2, 4],
    ),
    "not divisible": ("t = Concat <axis = 0> (b, n, least, three) y = Reshape (x, t)", ["batch", "sequence", None, 3]),
    "merged": ("t = Concat <axis = 0> (least, eight) y = Reshape (x, t)", [None, 8]),
    "scalars": (
        "s = Shape (x) i = Gather <axis = 0> (s, first) u = Unsqueeze (i, axis) t = Concat <axis = 0> (u, n, eight) "
        "y = Reshape (x, t)",
        ["batch", "sequence", 8],
    ),
    "expanded by Where": (
        "o = ConstantOfShape <value = int64[1] {1}> (three) m = Mul (o, least) t = Concat <axis = 0> (b, least, eight) "
        "e = Equal (t, m) w = Where (e, o, t) z = ReduceMean <keepdims = 1> (x, two_axes) y = Expand (z, w)",
        ["batch", 1, 8],
    ),
    "transposed": ("y = Transpose <perm = [0, 2, 1]> (x)", ["batch", 8, "sequence"]),
    "positions": ("p = Slice (table, zero, n, axis) y = Add (x, p)", ["batch", "sequence", 8]),
    "the last two": ("s = Shape (x) l = Slice (s, minus_two, last) t = Concat <axis = 0> (b, l) y = Reshape (x, t)",
                     ["batch", "sequence", 8]),
    "a real quotient": (
        "s = Shape (x) r = Cast <to = 1> (s) h = Div (r, half) t = Cast <to = 7> (h) y = Reshape (x, t)", ["unknown"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", GRAPHS)
def test_dimensions_are_followed(name: str) -> None:
    body, expected = GRAPHS[name]
    model = ir.from_onnx_text(
        f"""<ir_version: 8, opset_import: ["" : 18]>
        g (float[batch, sequence, 8] x) => (float[unknown] y)
        <int64[1] two = {{2}}, int64[1] three = {{3}}, int64[1] four = {{4}}, int64[1] eight = {{8}},
         int64[1] least = {{-1}}, int64 first = {{0}}, int64[1] axis = {{0}}, int64[1] zero = {{0}},
         int64[1] one = {{1}},
         int64[1] minus_two = {{-2}}, int64[1] last = {{9223372036854775807}}, float half = {{2}},
         int64[2] two_axes = {{1, 2}}, float[9, 1] table = {{1, 2, 3, 4, 5, 6, 7, 8, 9}}>
        {{ b = Shape <start = 0, end = 1> (x) n = Shape <start = 1, end = 2> (x) {body} }}"""
    )
    assert Dims(model.graph).of(model.graph.outputs[0]) == expected


def test_names_of_exporters_become_ours() -> None:
    model = ir.from_onnx_text(
        """<ir_version: 8, opset_import: ["" : 18]>
        g (int64[N, L] input_ids, int64[?, ?] attention_mask) => (int64[N, L] y)
        { y = Add (input_ids, attention_mask) }"""
    )
    name_inputs(model.graph, ("input_ids", "attention_mask"))
    shapes = [str(value.shape) for value in (*model.graph.inputs, *model.graph.outputs)]
    assert shapes == ["[batch,sequence]"] * 3
