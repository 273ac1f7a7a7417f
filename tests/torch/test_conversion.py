from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from aerogel import checkpoint as checkpoints
from aerogel.errors import CheckpointError, RuntimeLoadError, UsageError
from aerogel.hf.quiet import quiet
from aerogel.kernels.cpu.library import LIBRARY_VARIABLE
from aerogel.torch import SparseLinear, densify, report, sparsify

Checkpoints = Callable[..., Path]
Factory = Callable[..., nn.Linear]


def plain(path: Path) -> nn.Module:
    """Open the model with transformers alone."""
    import transformers

    with quiet():
        name = transformers.AutoConfig.from_pretrained(path).architectures[0]
        return getattr(transformers, name).from_pretrained(path).eval()


def batch() -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    mask = torch.ones(3, 12, dtype=torch.int64)
    mask[1, 7:] = 0
    mask[2, 1:] = 0
    return {"input_ids": torch.randint(5, 60, (3, 12), generator=draw), "attention_mask": mask}


def agree(a: Any, b: Any) -> None:
    a, b = a.logits if hasattr(a, "logits") else a[0], b.logits if hasattr(b, "logits") else b[0]
    assert a.shape == b.shape
    assert float((a - b).abs().max()) <= 1e-5 * float(b.abs().max())


@pytest.mark.parametrize("family", ["bert", "distilbert", "roberta", "electra"])
@pytest.mark.parametrize(("format", "block"), [("csr", (1, 1)), ("bsr", (4, 1)), ("auto", (1, 1))])
def test_checkpoint_gives_the_same_outputs(
    tiny_checkpoint: Checkpoints, family: str, format: str, block: tuple[int, int]
) -> None:
    path = tiny_checkpoint(family, density=0.2, block=block)
    model = sparsify(path, format)
    names = {layer.name for layer in report(model).sparse}
    assert {f"{name}.weight" for name in names} == set(checkpoints.load(path).masks)
    assert not model.training
    with torch.no_grad():
        agree(model(**batch()), plain(path)(**batch()))


@pytest.mark.parametrize("head", ["", "TokenClassification", "QuestionAnswering"])
def test_other_heads(tiny_checkpoint: Checkpoints, head: str) -> None:
    path = tiny_checkpoint("bert", head)
    with torch.inference_mode():
        agree(sparsify(str(path))(**batch()), plain(path)(**batch()))


def test_layers_of_the_size_of_minilm(tiny_checkpoint: Checkpoints) -> None:
    path = tiny_checkpoint(hidden_size=384, num_attention_heads=12, intermediate_size=1536)
    model = sparsify(path)
    assert len(report(model).sparse) == 12
    with torch.inference_mode():
        agree(model(**batch()), plain(path)(**batch()))


def test_compiles_in_one_graph(tiny_checkpoint: Checkpoints) -> None:
    model = sparsify(tiny_checkpoint())
    try:
        with quiet(), torch.inference_mode():
            agree(torch.compile(model, fullgraph=True, backend="aot_eager")(**batch()), model(**batch()))
    finally:
        torch.compiler.reset()


def test_stores_the_blocks_of_the_checkpoint(tiny_checkpoint: Checkpoints) -> None:
    path = tiny_checkpoint(block=(8, 2), density=0.25)
    for format in ("bsr", "auto"):
        layers = report(sparsify(path, format)).sparse
        assert {(layer.format, layer.block) for layer in layers} == {("bsr", (8, 2))}
        assert all(layer.stored == 0.25 * layer.shape[0] * layer.shape[1] for layer in layers)
    assert {layer.block for layer in report(sparsify(path, "bsr", block=(4, 1))).sparse} == {(4, 1)}


def test_break_even_equals_that_of_export(tiny_checkpoint: Checkpoints) -> None:
    from aerogel.export.plan import make_plan

    path = tiny_checkpoint(density=0.45, scope="global")
    for format in ("csr", "bsr"):
        for max_density in (None, 0.42, 0.0, 1.0):
            plan = make_plan(checkpoints.load(path), format, None, max_density)
            packed = {
                f"{layer.name}.weight"
                for layer in report(sparsify(path, format, max_density=max_density)).sparse
            }
            assert packed == {name for name, storage in plan.items() if storage.format == format}
    with pytest.raises(UsageError, match=r"max_density 1\.5: must be between 0 and 1"):
        sparsify(path, max_density=1.5)


def perceptron(pruned_linear: Factory) -> nn.Sequential:
    return nn.Sequential(
        pruned_linear(40, 24, 0.2), nn.Tanh(), pruned_linear(24, 40, 0.7), pruned_linear(16, 24, 0.3, (4, 1))
    )


def test_sparsifies_exact_zeros_of_any_model(pruned_linear: Factory) -> None:
    model = perceptron(pruned_linear)
    x = torch.randn(5, 24)
    expected = model(x)
    assert sparsify(model) is model
    assert [type(module) for module in model] == [SparseLinear, nn.Tanh, nn.Linear, SparseLinear]
    torch.testing.assert_close(model(x), expected, rtol=1e-5, atol=1e-5)


def test_auto_selects_the_format_of_each_matrix(pruned_linear: Factory) -> None:
    model = sparsify(perceptron(pruned_linear), "auto")
    assert [(layer.name, layer.format, layer.block) for layer in report(model).layers] == [
        ("0", "csr", (1, 1)), ("2", "dense", (1, 1)), ("3", "bsr", (4, 1)),
    ]  # fmt: skip
    # If the block does not divide a matrix, auto uses another format.
    assert report(sparsify(pruned_linear(9, 6, 0.2), "auto")).sparse[0].format == "csr"


def test_uses_masks_of_a_live_model(pruned_linear: Factory) -> None:
    model = perceptron(pruned_linear)
    mask = torch.rand(24, 40, generator=torch.Generator().manual_seed(1)) < 0.3
    expected = copy.deepcopy(model)
    with torch.no_grad():
        expected[2].weight.mul_(mask)
    for given in (mask, mask.numpy()):
        found = sparsify(copy.deepcopy(model), masks={"2.weight": given})
        assert [layer.name for layer in report(found).sparse] == ["2"]
        x = torch.randn(5, 24)
        torch.testing.assert_close(found(x), expected(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        ({"2.weights": np.ones((24, 40), bool)}, "2.weights is not the weight of an nn.Linear"),
        ({"1.weight": np.ones((24, 40), bool)}, "1.weight is not the weight"),
        ({"2.weight": np.ones((40, 24), bool)}, r"must be bool \[24, 40\], not bool\[40, 24\]"),
        ({"2.weight": np.ones((24, 40))}, "not float64"),
    ],
)
def test_masks_that_do_not_fit_leave_the_model_unchanged(
    pruned_linear: Factory, masks: dict[str, Any], message: str
) -> None:
    model = perceptron(pruned_linear)
    good = {"0.weight": np.zeros((40, 24), bool)}
    with pytest.raises(UsageError, match=message):
        sparsify(model, masks=good | masks)
    assert not report(model).sparse


def test_invalid_arguments_leave_the_model_unchanged(
    pruned_linear: Factory, tiny_checkpoint: Checkpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = perceptron(pruned_linear)
    with pytest.raises(UsageError, match="unknown format 'ell'"):
        sparsify(model, "ell")
    with pytest.raises(UsageError, match="does not apply to format 'csr'"):
        sparsify(model, "csr", block=(4, 1))
    with pytest.raises(UsageError, match=r"3x1 does not divide 0\.weight of shape 40x24"):
        sparsify(model, "bsr", block=(3, 1))
    with pytest.raises(UsageError, match=r"convert the model with model\.float"):
        sparsify(perceptron(pruned_linear).double())
    with pytest.raises(UsageError, match="masks: only for a live model"):
        sparsify(tiny_checkpoint(), masks={})
    with pytest.raises(CheckpointError, match="is not a directory"):
        sparsify("/no/such/checkpoint")
    monkeypatch.setenv(LIBRARY_VARIABLE, "")
    with pytest.raises(RuntimeLoadError, match=r"C\+\+17 compiler"):
        sparsify(model)
    assert not report(model).sparse


def test_densify_restores_the_model(tiny_checkpoint: Checkpoints, tmp_path: Path) -> None:
    path = tiny_checkpoint("distilbert")
    model = densify(sparsify(path))
    assert not report(model).sparse
    original = plain(path).state_dict()
    state = model.state_dict()
    assert state.keys() == original.keys()
    assert all(torch.equal(state[name], original[name]) for name in state)
    with quiet():
        model.save_pretrained(tmp_path)
    with torch.no_grad():
        assert torch.equal(plain(tmp_path)(**batch()).logits, plain(path)(**batch()).logits)


def test_model_may_be_a_single_layer(pruned_linear: Factory) -> None:
    linear = pruned_linear(8, 6)
    layer = sparsify(linear)
    assert isinstance(layer, SparseLinear)
    assert str(report(layer)).startswith("(model): 8x6")
    assert torch.equal(densify(layer).weight, linear.weight)


def test_shared_layer_stays_shared(pruned_linear: Factory) -> None:
    shared = pruned_linear(8, 8, 0.2)
    model = nn.ModuleDict({"a": shared, "b": nn.Sequential(shared, shared)})
    sparsify(model, masks={"b.0.weight": (shared.weight != 0).detach()})
    assert isinstance(model["a"], SparseLinear)
    assert model["a"] is model["b"][0] is model["b"][1]
    densify(model)
    assert type(model["a"]) is nn.Linear
    assert model["a"] is model["b"][0] is model["b"][1]


def test_torch_transformer_encoder(pruned_linear: Factory) -> None:
    layer = nn.TransformerEncoderLayer(32, 2, 64, batch_first=True).eval()
    layer.linear1, layer.linear2 = pruned_linear(64, 32, 0.2), pruned_linear(32, 64, 0.2)
    with torch.no_grad():
        layer.self_attn.out_proj.weight.zero_()
    model = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False).eval()
    x = torch.randn(2, 5, 32)
    with torch.no_grad():
        expected = model(x)
        sparsify(model)
        # torch.nn's attention reads the weight of its projection directly, so it stays dense.
        assert sorted(layer.name for layer in report(model).sparse) == [
            "layers.0.linear1", "layers.0.linear2", "layers.1.linear1", "layers.1.linear2",
        ]  # fmt: skip
        torch.testing.assert_close(model(x), expected, rtol=1e-5, atol=1e-5)
        torch.backends.mha.set_fastpath_enabled(False)
        try:
            torch.testing.assert_close(model(x), expected, rtol=1e-5, atol=1e-5)
        finally:
            torch.backends.mha.set_fastpath_enabled(True)


def test_report_numbers() -> None:
    linear = nn.Linear(8, 4)
    with torch.no_grad():
        linear.weight.zero_()
        linear.weight[:, 1] = 1.0
        linear.weight[0, 2] = 1.0
    summary = report(sparsify(nn.Sequential(linear, nn.Linear(4, 4)), "bsr", block=(4, 1)))
    sparse, dense = summary.layers
    assert (sparse.name, sparse.shape, sparse.format, sparse.block) == ("0", (4, 8), "bsr", (4, 1))
    assert (sparse.kept, sparse.stored, sparse.density) == (5, 8, 5 / 32)
    # Eight floats, two uint16 indices and two int32 row pointers.
    assert (sparse.bytes, sparse.dense_bytes) == (8 * 4 + 2 * 2 + 2 * 4, 32 * 4)
    assert (dense.format, dense.kept, dense.bytes, dense.dense_bytes) == ("dense", 16, 64, 64)
    assert (summary.density, summary.bytes, summary.dense_bytes) == (5 / 32, 44 + 64, 128 + 64)
    assert str(summary).splitlines() == [
        "0: 4x8, 15.6% kept, bsr 4x1, 25.0% stored",
        "1: 4x4, 100.0% kept, dense",
        "1 of 2 linear layers sparse, 15.6% of their weights kept; 0.00 MB instead of 0.00 MB",
    ]
