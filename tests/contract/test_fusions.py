"""Rules for every fusion. New fusions are found by their file names."""

from __future__ import annotations

import onnx_ir as ir
import pytest

from aerogel.export.fusion import FUSIONS, Fusion, fuse

FOREIGN = """
<ir_version: 8, opset_import: ["" : 18]>
g (float[n, 3] x, int64[n, 3] attention_mask) => (float[n, 3] y) <float[3, 3] w = {1, 0, 0, 0, 1, 0, 0, 0, 1}> {
  p = MatMul (x, w)
  y = Softmax (p)
}
"""


@pytest.mark.parametrize("name", FUSIONS.names())
def test_unrelated_graph_is_unchanged_and_gets_a_reason(name: str) -> None:
    fusion = FUSIONS.get(name)
    assert isinstance(fusion, Fusion)
    model = ir.from_onnx_text(FOREIGN)
    text = ir.to_proto(model).SerializeToString()
    fused = fusion.fuse(model)
    assert fused.layers == 0
    assert fused.reason
    assert "\n" not in fused.reason
    assert ir.to_proto(model).SerializeToString() == text


def test_fuse_tries_every_fusion() -> None:
    assert list(fuse(ir.from_onnx_text(FOREIGN))) == FUSIONS.names()
