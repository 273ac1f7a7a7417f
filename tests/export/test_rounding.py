from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from aerogel import checkpoint
from aerogel.errors import ExportError
from aerogel.export.plan import make_plan
from aerogel.export.torch_reference import TorchReference

Captured = tuple[Path, TorchReference, Any]
WORDS = "bert.embeddings.word_embeddings.weight"


def test_the_copy_has_the_stored_values_and_the_source_its_own(captured: Callable[..., Captured]) -> None:
    path, source, _ = captured("bert")
    before = {name: value.detach().clone() for name, value in source.model.named_parameters()}
    plan = make_plan(checkpoint.load(path), "csr", weights="int8")
    table = np.zeros_like(before[WORDS].numpy())
    copy = source.rounded({**{name: matrix.rounded() for name, matrix in plan.items()}, WORDS: table})
    after = dict(copy.model.named_parameters())
    for name, value in source.model.named_parameters():
        assert torch.equal(value, before[name])
        if name in plan:
            np.testing.assert_array_equal(after[name].detach().numpy(), plan[name].rounded())
            assert not torch.equal(after[name], value)
        elif name == WORDS:
            assert not after[name].any()
        else:
            assert torch.equal(after[name], value)


def test_inputs_of_8_bit_layers_are_rounded(captured: Callable[..., Captured]) -> None:
    path, source, _ = captured("bert")
    plan = make_plan(checkpoint.load(path), "csr", weights="int8")
    name = "bert.encoder.layer.1.output.dense"
    plan = {f"{name}.weight": plan[f"{name}.weight"]}
    copy = source.rounded({name: matrix.rounded() for name, matrix in plan.items()})
    layer = copy.model.get_submodule(name)
    x = torch.randn(3, layer.in_features, generator=torch.Generator().manual_seed(0))
    exact = layer(x)
    copy.round_activations({name: matrix.weights for name, matrix in plan.items()})
    steps = (x / x.abs().amax(1, keepdim=True) * 127).round() / 127 * x.abs().amax(1, keepdim=True)
    expected = steps @ layer.weight.T + layer.bias
    torch.testing.assert_close(layer(x), expected, rtol=0, atol=1e-5)
    assert (layer(x) - exact).abs().max() > 1e-4


def test_half_precision_leaves_inputs_alone(captured: Callable[..., Captured]) -> None:
    path, source, _ = captured("bert")
    plan = make_plan(checkpoint.load(path), "csr", weights="fp16")
    copy = source.rounded({name: matrix.rounded() for name, matrix in plan.items()})
    copy.round_activations({name: matrix.weights for name, matrix in plan.items()})
    assert not any(module._forward_pre_hooks for module in copy.model.modules())


def test_a_matrix_of_something_else_than_a_linear_layer_is_named(captured: Callable[..., Captured]) -> None:
    path, source, _ = captured("bert")
    choice = next(iter(make_plan(checkpoint.load(path), "csr", weights="int8").values()))
    with pytest.raises(ExportError, match=rf"{WORDS} belongs to a Embedding, .* --weights fp32"):
        source.round_activations({WORDS: choice.weights})
