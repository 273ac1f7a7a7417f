from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from aerogel.export.fusion import Fused
from aerogel.export.fusions.post_layernorm import FUSION

Graph = Callable[..., ir.Model]
Inputs = Sequence[dict[str, np.ndarray]]
Check = Callable[..., None]
Run = Callable[..., list[np.ndarray]]


def attributes(model: ir.Model) -> dict[str, Any]:
    (node,) = (node for node in model.graph if node.op_type == "Encoder_v1")
    return {name: attribute.value for name, attribute in node.attributes.items()}


GELU = {
    "a": "t_1 = Div (f, root2) t_2 = Erf (t_1) t_3 = Add (t_2, one) t_4 = Mul (f, t_3) a = Mul (t_4, half)"
}
EPSILON = {
    "x1": "x1 = LayerNormalization <epsilon = 0.5, axis = -1> (sum1, g1, b1)",
    "y": "y = LayerNormalization <epsilon = 0.5, axis = -1> (sum2, g2, b2)",
}


def test_layers_become_one_node(encoder_graph: Graph, same_results: Check) -> None:
    before, after = encoder_graph({}, {}, {}), encoder_graph({}, {}, {})
    assert FUSION.fuse(after) == Fused(3, 3, "")
    (node,) = after.graph
    assert attributes(after)["matrices"] == " ".join(["csr dense dense dense dense dense"] * 3)
    layer = "wq_data wq_indices wq_indptr bq wk bk wv bv wo bo g1 b1 w1 c1 w2 c2 g2 b2 "
    assert " ".join(value.name for value in node.inputs) == f"x attention_mask {layer * 3}".strip()
    same_results(before, after)


@pytest.mark.parametrize(
    ("layers", "fused", "start"),
    [
        (
            ({"scaled": "", "masked": "masked = Add (scores, mask)"}, {}, {}, {}),
            3,
            "layer 0: MatMul node n_scores_0",
        ),
        (({}, {"a": "a = Tanh (f)"}, {}, {}), 2, "layer 1: Tanh node n_a_1"),
        (({}, {}, {"a": "a = Tanh (f)"}, {}), 2, "layer 2: Tanh node n_a_2"),
        (
            ({}, EPSILON, EPSILON),
            2,
            "layer 1: has 2 heads, epsilon 0.5 and relu, the previous layer 2 heads, epsilon 0.00",
        ),
        (({}, GELU), 1, "layer 1: has 2 heads, epsilon 0.00"),
    ],
)
def test_longest_run_of_equal_layers_is_fused(
    encoder_graph: Graph, same_results: Check, layers: tuple[dict[str, str], ...], fused: int, start: str
) -> None:
    before, after = (encoder_graph(*layers) for _ in range(2))
    found = FUSION.fuse(after)
    assert (found.layers, found.found) == (fused, len(layers))
    assert found.reason.startswith(start)
    assert sum(node.op_type == "Encoder_v1" for node in after.graph) == 1
    # The layers after the fused ones need not be zero at padding.
    same_results(before, after, zeros=False)


@pytest.mark.parametrize(
    ("name", "type_text", "fused", "reason"),
    [
        (
            "probs",
            "float[batch, 2, length, length]",
            0,
            "n_probs has a result that is not read by exactly one MatMul",
        ),
        ("f", "float[batch, length, 6]", 0, "n_f has a result that is used outside the layer"),
        (
            "x1",
            "float[batch, length, 4]",
            0,
            "n_x1 is not read by exactly one linear layer and one residual Add",
        ),
        ("mask", "float[batch, 1, 1, length]", 1, ""),
    ],
)
def test_graph_outputs_inside_a_layer_are_kept(
    encoder_graph: Graph, same_results: Check, name: str, type_text: str, fused: int, reason: str
) -> None:
    before, after = (encoder_graph(outputs={name: type_text}) for _ in range(2))
    found = FUSION.fuse(after)
    assert found.layers == fused
    assert reason in found.reason
    assert [value.name for value in after.graph.outputs] == ["y", name]
    if fused:
        same_results(before, after)


def test_layer_with_a_second_reader_ends_the_run(encoder_graph: Graph, same_results: Check) -> None:
    after = encoder_graph({}, {}, {})
    (first,) = (node for node in after.graph if node.name == "n_y_0")
    after.graph.outputs.append(first.outputs[0])
    found = FUSION.fuse(after)
    assert (found.layers, found.found) == (2, 3)
    assert found.reason == "layer 1: is not the only reader of y_0, the output of the previous layer"
    same_results(encoder_graph({}, {}, {}), after)


def test_layers_without_a_packed_matrix_are_fused(encoder_graph: Graph, same_results: Check) -> None:
    dense = {"qf": "t_p = MatMul (x, wk) qf = Add (t_p, bk)"}
    model = encoder_graph(dense)
    assert FUSION.fuse(model) == Fused(1, 1, "")
    assert any(node.op_type == "Encoder_v1" for node in model.graph)
    same_results(encoder_graph(dense), model)


def test_model_without_attention_has_no_layers() -> None:
    model = ir.from_onnx_text(
        '<ir_version: 8, opset_import: ["" : 18]> g (float[n] x) => (float[n] y) { y = Softmax (x) }'
    )
    assert FUSION.fuse(model) == Fused(0, 0, "the model has no attention")


def test_mask_of_another_shape_is_named(encoder_graph: Graph) -> None:
    model = encoder_graph()
    model.graph.inputs[1].shape = ir.Shape(["batch", "keys"])
    assert (
        "n_masked has a mask of shape ['batch', 'keys'] for an input of shape ['batch', 'length', 4]"
        in FUSION.fuse(model).reason
    )


def test_matrix_of_another_shape_is_named(encoder_graph: Graph) -> None:
    model = encoder_graph()
    model.graph.initializers["w2"].const_value = ir.tensor(np.zeros((5, 4), np.float32))
    assert FUSION.fuse(model).reason == "layer 0: MatMul node n_hp has a matrix of 4x5 where 4x6 is expected"


def test_any_nonzero_mask_value_marks_a_real_token(
    encoder_graph: Graph, inputs: Inputs, run_graph: Run
) -> None:
    model = encoder_graph()
    FUSION.fuse(model)
    feed = inputs[2]
    odd = feed | {"attention_mask": feed["attention_mask"] * np.array([7, -1, 2**40, 1, 256])}
    one, other = run_graph(model, [feed, odd])
    np.testing.assert_array_equal(one, other)


def test_texts_of_padding_only_give_zeros(encoder_graph: Graph, inputs: Inputs, run_graph: Run) -> None:
    model = encoder_graph({}, {})
    FUSION.fuse(model)
    (got,) = run_graph(model, [inputs[1] | {"attention_mask": np.zeros((2, 3), np.int64)}])
    np.testing.assert_array_equal(got, np.zeros_like(got))
