from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from aerogel.hf.load import load_model
from aerogel.hf.quiet import quiet
from aerogel.torch.shrink import ShrinkReport, shrink

Checkpoints = Callable[..., Path]


def plain(path: Path, attention: str) -> nn.Module:
    with quiet():
        return load_model(path, attention=attention).double()


def inputs() -> dict[str, torch.Tensor]:
    ids = torch.randint(5, 40, (3, 7), generator=torch.Generator().manual_seed(0))
    mask = torch.tensor([[1] * 7, [1] * 4 + [0] * 3, [1] + [0] * 6])
    return {"input_ids": ids, "attention_mask": mask}


def part(model: nn.Module, *ends: str) -> nn.Linear:
    """Return the layer of encoder block 1 whose name ends in one of `ends`."""
    (found,) = (module for name, module in model.named_modules() if ".1." in name and name.endswith(ends))
    assert isinstance(found, nn.Linear)
    return found


@pytest.mark.parametrize("family", ["bert", "roberta", "electra", "distilbert"])
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_outputs_are_equal_up_to_rounding(tiny_checkpoint: Checkpoints, family: str, attention: str) -> None:
    """In float64, where rounding cannot hide a wrong fold. Four heads of 8."""
    heads = {"n_heads": 4} if family == "distilbert" else {"num_attention_heads": 4}
    model = plain(tiny_checkpoint(family, density=1, **heads), attention)
    first, second = part(model, "intermediate.dense", "lin1"), part(model, "1.output.dense", "lin2")
    value, output = part(model, "value", "v_lin"), part(model, "attention.output.dense", "out_lin")
    with torch.no_grad():
        value.weight[:8] = 0  # head 0 is constant
        output.weight[:, 16:24] = 0  # head 2 is not read
        first.weight[5] = 0  # constant
        second.weight[:, 9] = 0  # not read
        second.weight[:, 11] = 0
        expected = model(**inputs()).logits
        assert shrink(model) == ShrinkReport(heads=2, all_heads=8, neurons=3, all_neurons=128)
        assert (value.weight.shape, output.weight.shape) == ((16, 32), (32, 16))
        assert (first.out_features, second.in_features) == (61, 61)
        torch.testing.assert_close(model(**inputs()).logits, expected, rtol=1e-12, atol=1e-12)
        assert shrink(model) == ShrinkReport(0, 6, 0, 125)


def test_folds_constants_into_the_bias() -> None:
    """Two neurons with the square as activation."""

    class Square(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * x

    class Feed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lin1, self.lin2 = nn.Linear(1, 2), nn.Linear(2, 1, bias=False)
            self.activation = Square()

    layer = nn.Module()
    layer.ffn = Feed()
    with torch.no_grad():
        layer.ffn.lin1.weight.copy_(torch.tensor([[0.0], [2.0]]))
        layer.ffn.lin1.bias.copy_(torch.tensor([3.0, 1.0]))
        layer.ffn.lin2.weight.copy_(torch.tensor([[5.0, 7.0]]))
    assert shrink(layer).neurons == 1
    assert layer.ffn.lin2.bias.tolist() == [5.0 * 3.0**2]
    assert layer.ffn.lin1.weight.tolist() == [[2.0]]


def test_removes_groups_that_blocks_divide(tiny_checkpoint: Checkpoints) -> None:
    model = plain(tiny_checkpoint(density=1), "eager")
    first, value = part(model, "intermediate.dense"), part(model, "value")
    with torch.no_grad():
        first.weight[3:12] = 0
        value.weight[:16] = 0
        assert shrink(model, multiple=32) == ShrinkReport(0, 4, 0, 128)
        assert shrink(model, multiple=4) == ShrinkReport(1, 4, 8, 128)
    assert first.out_features == 56


def test_keeps_one_head_and_one_neuron(tiny_checkpoint: Checkpoints) -> None:
    model = plain(tiny_checkpoint(density=1), "sdpa")
    with torch.no_grad():
        for name, module in model.named_modules():
            if ".layer." in name and isinstance(module, nn.Linear):
                module.weight.zero_()
        expected = model(**inputs()).logits
        assert shrink(model) == ShrinkReport(2, 4, 126, 128)
        torch.testing.assert_close(model(**inputs()).logits, expected, rtol=1e-12, atol=1e-12)


def test_other_models_are_unchanged(tiny_checkpoint: Checkpoints) -> None:
    model = plain(tiny_checkpoint("modernbert", density=1), "eager")
    assert shrink(model) == ShrinkReport(0, 0, 0, 0)
    assert shrink(nn.Linear(3, 4)) == ShrinkReport(0, 0, 0, 0)
    assert str(ShrinkReport(1, 2, 3, 4)) == "1 of 2 attention heads and 3 of 4 neurons removed"
