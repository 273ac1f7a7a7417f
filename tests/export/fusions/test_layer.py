from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import onnx_ir as ir
import pytest

from aerogel.export.fusion import Fused
from aerogel.export.fusions import _attention
from aerogel.export.fusions.post_layernorm import FUSION

Graph = Callable[..., ir.Model]
Check = Callable[..., None]


def attributes(model: ir.Model) -> dict[str, Any]:
    (node,) = (node for node in model.graph if node.op_type == "Encoder_v1")
    return {name: attribute.value for name, attribute in node.attributes.items()}


ERF = {"t_1": "t_1 = Div (f, root2)", "t_2": "t_2 = Erf (t_1)", "t_3": "t_3 = Add (one, t_2)"}
TANH = {
    "t_1": "t_1 = Pow (f, three)",
    "t_2": "t_2 = Mul (tanh_cube, t_1)",
    "t_3": "t_3 = Add (t_2, f)",
    "t_4": "t_4 = Mul (t_3, tanh_scale)",
    "t_5": "t_5 = Tanh (t_4)",
    "t_6": "t_6 = Add (t_5, one)",
}


def spelled(steps: dict[str, str], *last: str) -> dict[str, str]:
    return {"a": " ".join((*steps.values(), *last))}


# Other ways to write the same layer, and its activation.
SAME: dict[str, tuple[dict[str, str], str]] = {
    "unchanged": ({}, "relu"),
    "scores divided": ({"scaled": "scaled = Div (scores, root2)"}, "relu"),
    "constant first": ({"scaled": "scaled = Mul (root, scores)"}, "relu"),
    "q scaled": (
        {
            "q": "t_q = Transpose <perm = [0, 2, 1, 3]> (qs) q = Div (t_q, root2)",
            "scaled": "scaled = Mul (scores, one)",
        },
        "relu",
    ),
    "q scaled, nothing after": (
        {
            "qs": "t_q = Mul (qf, root) qs = Reshape (t_q, split)",
            "scaled": "",
            "masked": "masked = Add (scores, mask)",
        },
        "relu",
    ),
    "q and k scaled": (
        {
            "q": "t_q = Transpose <perm = [0, 2, 1, 3]> (qs) q = Mul (fourth_root, t_q)",
            "k": "t_k = Mul (ks, fourth_root) k = Transpose <perm = [0, 2, 3, 1]> (t_k)",
            "scaled": "",
            "masked": "masked = Add (mask, scores)",
        },
        "relu",
    ),
    "k transposed twice": (
        {"k": "t_k = Transpose <perm = [0, 2, 1, 3]> (ks) k = Transpose <perm = [0, 1, 3, 2]> (t_k)"},
        "relu",
    ),
    "operands of every sum swapped": (
        {
            "masked": "masked = Add (mask, scaled)",
            "mask": "mask = Mul (lowest, inverted)",
            "kf": "kf = Add (bk, kp)",
            "o": "o = Add (bo, op)",
            "sum1": "sum1 = Add (x, o)",
            "f": "f = Add (c1, fp)",
            "h": "h = Add (c2, hp)",
            "sum2": "sum2 = Add (x1, h)",
        },
        "relu",
    ),
    "sizes copied": (
        {
            "qs": "qs = Reshape (qf, copied_heads)",
            "ks": "ks = Reshape (kf, copied)",
            "vs": "vs = Reshape (vf, copied_batch)",
            "merged": "merged = Reshape (back, copied_merged)",
        },
        "relu",
    ),
    "batch inferred": ({"split": "split = Concat <axis = 0> (minus_one, length, two, two)"}, "relu"),
    "last axis counted from the front": (
        {
            "probs": "probs = Softmax <axis = 3> (masked)",
            "y": "y = LayerNormalization <axis = 2, epsilon = 0.001> (sum2, g2, b2)",
        },
        "relu",
    ),
    "gelu, half last": (spelled(ERF, "t_4 = Mul (f, t_3)", "a = Mul (t_4, half)"), "gelu"),
    "gelu, half first": (spelled(ERF, "t_4 = Mul (half, f)", "a = Mul (t_3, t_4)"), "gelu"),
    "gelu, multiplied": (
        spelled(ERF | {"t_1": "t_1 = Mul (root, f)"}, "t_4 = Mul (t_3, half)", "a = Mul (t_4, f)"),
        "gelu",
    ),
    "gelu by tanh": (spelled(TANH, "t_7 = Mul (half, f)", "a = Mul (t_7, t_6)"), "gelu_tanh"),
    "gelu by tanh, factored out": (
        spelled(
            TANH
            | {
                "t_1": "t_0 = Mul (f, f) t_1 = Mul (t_0, tanh_cube)",
                "t_2": "t_2 = Add (t_1, one)",
                "t_3": "t_3 = Mul (f, t_2)",
            },
            "t_7 = Mul (f, t_6)",
            "a = Mul (t_7, half)",
        ),
        "gelu_tanh",
    ),
}


@pytest.mark.parametrize("which", SAME)
def test_layer_is_recognized_in_every_spelling(encoder_graph: Graph, same_results: Check, which: str) -> None:
    change, activation = SAME[which]
    before, after = encoder_graph(change), encoder_graph(change)
    assert FUSION.fuse(after) == Fused(1, 1, "")
    assert [node.op_type for node in after.graph] == ["Encoder_v1"]
    assert attributes(after) == {
        "heads": 2,
        "epsilon": pytest.approx(1e-3),
        "activation": activation,
        "matrices": "csr dense dense dense dense dense",
        "tokens": "all",
    }
    same_results(before, after)


@pytest.mark.parametrize(("approximate", "activation"), [("none", "gelu"), ("tanh", "gelu_tanh")])
def test_gelu_operator_of_newer_opsets_is_recognized(
    encoder_graph: Graph, approximate: str, activation: str
) -> None:
    model = encoder_graph({"a": f'a = Gelu <approximate = "{approximate}"> (f)'}, opset=20)
    assert FUSION.fuse(model) == Fused(1, 1, "")
    assert attributes(model)["activation"] == activation
    (function,) = (function for function in model.functions.values() if function.name == "Encoder_v1")
    assert function.opset_imports[""] == 20


# Graphs that are not such a layer, and the reason.
OTHER: dict[str, tuple[dict[str, str], str]] = {
    "other scale": (
        {"scaled": "scaled = Mul (scores, half)"},
        r"MatMul node n_scores has scores scaled by 0\.5 instead of 1 / sqrt\(2\)",
    ),
    "no scale": ({"scaled": "", "masked": "masked = Add (scores, mask)"}, "scaled by 1 instead of"),
    "scale that is not a number": (
        {"scaled": "scaled = Mul (scores, pair)"},
        "n_scaled scales the input of Add node n_masked by a non-constant value",
    ),
    "scaled values": (
        {"v": "t_v = Transpose <perm = [0, 2, 1, 3]> (vs) v = Mul (t_v, half)"},
        "n_vs splits scaled values",
    ),
    "scaled after the mask": (
        {"scaled": "t_m = Add (scores, mask)", "masked": "masked = Mul (t_m, root)"},
        "Mul node n_masked is found where Add is expected",
    ),
    "no mask": (
        {"masked": "", "probs": "probs = Softmax <axis = -1> (scaled)"},
        "Mul node n_scaled is found where Add",
    ),
    "mask of another value": (
        {"mask": "mask = Mul (inverted, minus_inf)"},
        "n_masked adds a value to the scores that is not the mask computed from attention_mask",
    ),
    "mask not inverted": (
        {"inverted": "inverted = Sub (real, one)"},
        "n_inverted does not subtract the mask from 1",
    ),
    "mask over the queries": (
        {"wide": "wide = Unsqueeze (attention_mask, query_axes)"},
        "n_wide does not create a float32 mask over the keys",
    ),
    "mask in double": (
        {
            "mask": "t_d = Cast <to = 1> (inverted) mask = Mul (t_d, lowest)",
            "real": "real = Cast <to = 11> (wide)",
            "inverted": "t_one = Cast <to = 11> (one) inverted = Sub (t_one, real)",
        },
        "n_t_d is found where Sub is expected",
    ),
    "mask of something else": (
        {"wide": "t_m = Identity (attention_mask) wide = Unsqueeze (t_m, axes)"},
        "n_wide does not read the input attention_mask",
    ),
    "softmax over the queries": (
        {"probs": "probs = Softmax <axis = 2> (masked)"},
        "n_probs does not normalize over the keys",
    ),
    "position bias": (
        {"masked": "t_b = Add (scaled, one) masked = Add (t_b, mask)"},
        "Add node n_t_b is found where MatMul is expected",
    ),
    "attention altered": (
        {"mixed": "t_p = Mul (probs, half) mixed = MatMul (t_p, v)"},
        "Mul node n_t_p is found where MatMul is expected",
    ),
    "values attend": (
        {"k": "k = Transpose <perm = [0, 2, 1, 3]> (ks)", "q": "q = Transpose <perm = [0, 2, 3, 1]> (qs)"},
        "n_qs has axes in the order",
    ),
    "rotated": (
        {"q": "t_q = Transpose <perm = [0, 2, 1, 3]> (qs) q = Add (t_q, pair)"},
        "n_q is found where a split into heads is expected",
    ),
    "heads that are not merged": (
        {
            "back": "back = Transpose <perm = [0, 2, 3, 1]> (mixed)",
            "split": "split = Concat <axis = 0> (batch, length, two, two)",
        },
        "n_merged does not merge the heads",
    ),
    "another number of heads": (
        {"ks": "t_s = Concat <axis = 0> (batch, length, four, minus_one) ks = Reshape (kf, t_s)"},
        "n_ks does not split .batch, sequence, features. into 2 heads",
    ),
    "k of something else": (
        {"kp": "t_x = Neg (x) kp = MatMul (t_x, wk)"},
        "n_kp does not read x, the input of q",
    ),
    "weight that is computed": (
        {"kp": "t_w = Neg (wk) kp = MatMul (x, t_w)"},
        "n_kp multiplies by a value that is not a float32 weight matrix",
    ),
    "no bias": (
        {"op": "", "o": "o = MatMul (merged, wo)"},
        "n_sum1 has an input 1 that is not a float32 constant of 4 entries",
    ),
    "bias that is not a vector": (
        {"f": "f = Add (fp, one)"},
        "n_f has an input 1 that is not a float32 constant of 6 entries",
    ),
    "no residual": ({"sum1": "sum1 = Add (o, bo)"}, "n_sum1 does not add x, the input of attention"),
    "normalized first": ({"sum1": "t_x = Neg (x) sum1 = Add (o, t_x)"}, "n_sum1 does not add x"),
    "second residual of the layer's input": (
        {"sum2": "sum2 = Add (h, x)"},
        "n_x1 is not read by exactly one linear layer and one residual Add",
    ),
    "not normalized": (
        {"y": "y = Identity (sum2)"},
        "Identity node n_y is found where LayerNormalization is expected",
    ),
    "normalized over the sequence": (
        {"x1": "x1 = LayerNormalization <epsilon = 0.001, axis = 1> (sum1, g1, b1)"},
        "n_x1 does not normalize over the features",
    ),
    "no shift": (
        {"y": "y = LayerNormalization <epsilon = 0.001, axis = -1> (sum2, g2)"},
        "n_y lacks input 2",
    ),
    "an infinite epsilon": (
        {"x1": "x1 = LayerNormalization <epsilon = inf, axis = -1> (sum1, g1, b1)"},
        "n_x1 has epsilon inf, which is negative or not finite",
    ),
    "a negative epsilon": (
        {"x1": "x1 = LayerNormalization <epsilon = -0.001, axis = -1> (sum1, g1, b1)"},
        r"n_x1 has epsilon -0\.001, which is negative or not finite",
    ),
    "two epsilons": (
        {"y": "y = LayerNormalization <epsilon = 0.01, axis = -1> (sum2, g2, b2)"},
        r"n_y has epsilon 0\.01, but the layer's first LayerNormalization has 0\.001",
    ),
    "other activation": (
        {"a": "a = Tanh (f)"},
        "Tanh node n_a ends an unknown activation; the known ones are gelu, gelu_tanh, relu",
    ),
    "unknown activation": (
        {"a": "a = Sigmoid (f)"},
        "Sigmoid node n_a is not part of a known activation",
    ),
    "gated": (
        {"a": "t_r = Relu (f) t_g = MatMul (x1, w1) a = Mul (t_r, t_g)"},
        "n_x1 is not read by exactly one",
    ),
}


@pytest.mark.parametrize("which", OTHER)
def test_other_graphs_are_unchanged_with_a_reason(encoder_graph: Graph, which: str) -> None:
    change, words = OTHER[which]
    model = encoder_graph(change)
    text = ir.to_proto(model).SerializeToString()
    fused = FUSION.fuse(model)
    assert (fused.layers, fused.found) == (0, 1)
    assert fused.reason.startswith("layer 0: ")
    assert re.search(words, fused.reason), fused.reason
    assert ir.to_proto(model).SerializeToString() == text


def test_heads_larger_than_the_kernels_support_are_not_fused(
    encoder_graph: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_attention, "MAX_HEAD_FEATURES", 2)
    assert FUSION.fuse(encoder_graph()) == Fused(1, 1, "")
    monkeypatch.setattr(_attention, "MAX_HEAD_FEATURES", 1)
    fused = FUSION.fuse(encoder_graph())
    assert fused.layers == 0
    assert "n_qs splits into heads of 2 features, more than the 1 that the kernels support" in fused.reason
