from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.checker
import onnx_ir as ir
import pytest

from aerogel import checkpoint, runtime
from aerogel.export.fusion import Fused, fuse
from aerogel.export.plan import make_plan
from aerogel.export.rewrite import attach_functions, rewrite
from aerogel.export.simplify import simplify
from aerogel.export.torch_reference import TorchReference

Captured = Callable[..., tuple[Path, TorchReference, ir.Model]]

# Architecture, head, config, expected activation.
MODELS: dict[str, tuple[str, str, dict[str, Any], str]] = {
    "bert": ("bert", "SequenceClassification", {}, "gelu"),
    "bert tokens": ("bert", "TokenClassification", {"num_hidden_layers": 1}, "gelu"),
    "bert spans": ("bert", "QuestionAnswering", {"num_hidden_layers": 1}, "gelu"),
    "bert encoder": ("bert", "", {"num_hidden_layers": 1}, "gelu"),
    "bert, gelu_new": (
        "bert", "", {"num_hidden_layers": 1, "hidden_act": "gelu_new", "num_attention_heads": 4}, "gelu_tanh",
    ),
    "bert, relu": ("bert", "", {"num_hidden_layers": 1, "hidden_act": "relu", "layer_norm_eps": 1e-5}, "relu"),
    "roberta": ("roberta", "SequenceClassification", {"num_hidden_layers": 1}, "gelu"),
    "electra": ("electra", "SequenceClassification", {"num_hidden_layers": 1}, "gelu"),
    "distilbert": ("distilbert", "SequenceClassification", {"n_layers": 1}, "gelu"),
    "albert": ("albert", "SequenceClassification", {}, "gelu_tanh"),
}  # fmt: skip

# Architectures with other layers, and part of the reason.
OTHERS = {
    "roberta-prelayernorm": "the input of attention, as a post-LayerNorm layer does",
    "deberta-v2": "is found where Add is expected",
    "modernbert": "is found where a split into heads is expected",
}

MASKS = [
    [[1]],
    [[1, 1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0, 0]],
    # Holes. The first token is real, because sentence heads read it.
    [[1, 0, 1, 1, 0], [1, 0, 0, 0, 1]],
]


def prepared(
    model: ir.Model, path: Path, format_name: str = "csr", weights: str = "fp32", *, fusing: bool = True
) -> dict[str, Fused]:
    """Apply the steps of an export to a captured graph; returns the results of the fusions."""
    plan = make_plan(checkpoint.load(path), format_name, max_density=1.0, weights=weights)
    rewrite(model, plan)
    simplify(model)
    attach_functions(model, plan)
    return fuse(model) if fusing else {}


def feed_of(
    rows: list[list[int]], names: Collection[str], random: np.random.Generator
) -> dict[str, np.ndarray]:
    mask = np.array(rows, np.int64)
    feed = {
        "input_ids": random.integers(5, 60, mask.shape),
        "attention_mask": mask,
        "token_type_ids": random.integers(0, 2, mask.shape),
    }
    return {name: feed[name] for name in names}


def check(model: ir.Model, source: TorchReference, file: Path) -> None:
    """Check both runtimes against PyTorch, at real tokens only if an output has one row per token."""
    proto = ir.to_proto(model)
    onnx.checker.check_model(proto, full_check=True)
    onnx.save(proto, file)
    random = np.random.default_rng(0)
    sessions = [runtime.session(file, library=False), runtime.session(file, library=True)]
    names = [value.name for value in sessions[0].get_inputs()]
    for rows in MASKS:
        feed = feed_of(rows, names, random)
        mask = feed["attention_mask"]
        for session in sessions:
            for name, got in zip(source.outputs, session.run(None, feed), strict=True):
                expected = source.run(feed)[name]
                assert got.shape == expected.shape
                per_token = session.get_outputs()[0].shape[1] == "sequence"
                real = mask == 1 if per_token else ...
                np.testing.assert_allclose(
                    got[real], expected[real], rtol=0, atol=2e-5 * np.abs(expected).max()
                )
                if name == "last_hidden_state":
                    assert not got[mask == 0].any()


@pytest.mark.parametrize("which", MODELS)
def test_encoder_becomes_one_node_with_equal_outputs(captured: Captured, which: str, tmp_path: Path) -> None:
    family, head, config, activation = MODELS[which]
    path, source, model = captured(family, head, **config)
    layers = config.get("num_hidden_layers", config.get("n_layers", 2))
    assert prepared(model, path) == {"post-layernorm": Fused(layers, layers, "")}
    (node,) = (node for node in model.graph if node.domain)
    assert node.op_type == "Encoder_v1"
    assert node.attributes.get_int("heads") == config.get("num_attention_heads", 2)
    assert node.attributes.get_float("epsilon") == pytest.approx(config.get("layer_norm_eps", 1e-12))
    assert node.attributes.get_string("activation") == activation
    assert node.attributes.get_string("matrices") == " ".join(["csr"] * 6 * layers)
    # A sentence head reads the first token only.
    assert node.attributes.get_string("tokens") == ("first" if head == "SequenceClassification" else "all")
    # hidden and mask; per layer six matrices of three arrays and a bias, and two pairs of gamma and beta.
    assert len(node.inputs) == 2 + layers * (6 * 4 + 4)
    assert node.inputs[1] is model.graph.inputs[1]
    assert model.graph.inputs[1].name == "attention_mask"
    check(model, source, tmp_path / "m.onnx")


@pytest.mark.parametrize("family", OTHERS)
def test_other_encoders_are_not_fused(captured: Captured, family: str, tmp_path: Path) -> None:
    path, source, model = captured(family, num_hidden_layers=1)
    (fused,) = prepared(model, path).values()
    assert (fused.layers, fused.found) == (0, 1)
    assert OTHERS[family] in fused.reason
    assert "Encoder_v1" not in {node.op_type for node in model.graph}
    check(model, source, tmp_path / "m.onnx")


def test_shared_layers_are_stored_once(captured: Captured) -> None:
    path, _, model = captured("albert", "SequenceClassification")
    prepared(model, path)
    (node,) = (node for node in model.graph if node.domain)
    tensors = [value.name for value in node.inputs[2:]]
    assert tensors[:28] == tensors[28:]
    assert len(set(tensors)) == 28


def test_mixed_encoder_lists_the_storage_of_each_matrix(captured: Captured, tmp_path: Path) -> None:
    path, source, model = captured("bert")
    plan = make_plan(checkpoint.load(path), "bsr", max_density=1.0)
    csr = make_plan(checkpoint.load(path), "csr", max_density=1.0)
    dense = make_plan(checkpoint.load(path), "dense")
    plans = [csr, plan, dense, dense, plan, csr] * 2
    mixed = {name: chosen[name] for name, chosen in zip(plan, plans, strict=True)}
    rewrite(model, mixed)
    simplify(model)
    attach_functions(model, mixed)
    assert fuse(model) == {"post-layernorm": Fused(2, 2, "")}
    (node,) = (node for node in model.graph if node.domain)
    assert node.attributes.get_string("matrices") == "csr bsr dense dense bsr csr csr bsr dense dense bsr csr"
    check(model, source, tmp_path / "m.onnx")


@pytest.mark.parametrize("format_name", ["csr", "bsr"])
@pytest.mark.parametrize("weights", ["fp16", "int8"])
def test_fused_and_unfused_rounded_weights_agree(
    captured: Captured, format_name: str, weights: str, tmp_path: Path
) -> None:
    sessions = []
    for fusing in (False, True):
        path, _, model = captured("bert")
        found = prepared(model, path, format_name, weights, fusing=fusing)
        onnx.save(ir.to_proto(model), tmp_path / "m.onnx")
        sessions.append(runtime.session(tmp_path / "m.onnx", library=False))
    assert found == {"post-layernorm": Fused(2, 2, "")}
    (node,) = (node for node in model.graph if node.domain)
    assert node.attributes.get_string("matrices") == " ".join([f"{format_name}-{weights}"] * 12)
    random = np.random.default_rng(0)
    for rows in MASKS:
        feed = feed_of(rows, [value.name for value in sessions[0].get_inputs()], random)
        layers, one = (session.run(None, feed)[0] for session in sessions)
        # Both do the same operations in the same order, so they round activations to equal integers.
        np.testing.assert_allclose(one, layers, rtol=0, atol=1e-6 * np.abs(layers).max())


@pytest.mark.parametrize("format_name", ["csr", "bsr"])
def test_stock_runtime_optimizes_fused_and_unfused_layers_alike(
    captured: Captured, format_name: str, tmp_path: Path
) -> None:
    found = []
    for fusing in (False, True):
        path, _, model = captured("bert")
        prepared(model, path, format_name, fusing=fusing)
        onnx.save(ir.to_proto(model), tmp_path / "m.onnx")
        options = runtime.session_options(threads=1)
        options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
        options.log_severity_level = 3
        runtime.session(tmp_path / "m.onnx", library=False, options=options)
        found.append(Counter(node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node))
    layers, one = found
    assert layers["BiasGelu"] == layers["FusedMatMul"] == 2
    # The fused body casts and reshapes the mask a second time, multiplies by it at the end, and slices the first token.
    assert one - layers <= Counter(Shape=1, Cast=1, Unsqueeze=1, Mul=1, Slice=1)
    assert not layers - one
