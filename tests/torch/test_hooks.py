"""Layers with attachments: torch.nn.utils.prune, hooks, parametrizations, adapters."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune

from aerogel.errors import UsageError
from aerogel.torch import SparseLinear, densify, report, shrink, sparsify

Factory = Callable[..., nn.Linear]


def trained(pruned_linear: Factory) -> tuple[nn.Sequential, torch.Tensor, torch.Tensor]:
    """A model that `torch.nn.utils.prune` prunes, after an optimizer step; an input, and its true output."""
    model = nn.Sequential(pruned_linear(64, 32, 1.0), nn.ReLU(), pruned_linear(8, 64, 1.0))
    for layer in (model[0], model[2]):
        prune.l1_unstructured(layer, "weight", 0.9)
    prune.l1_unstructured(model[0], "bias", 0.5)
    x = torch.randn(5, 32, generator=torch.Generator().manual_seed(0))
    optimizer = torch.optim.SGD(model.parameters(), 1e-4)
    model(x).square().sum().backward()
    optimizer.step()
    dense = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 8))
    with torch.no_grad():
        for layer, plain in ((model[0], dense[0]), (model[2], dense[2])):
            plain.weight.copy_(layer.weight_orig * layer.weight_mask)
            plain.bias.copy_(layer.bias_orig * layer.bias_mask if layer is model[0] else layer.bias)
        # The attribute must be outdated, or the test would prove nothing.
        assert not torch.equal(model[0].weight, dense[0].weight)
        return model, x, dense(x)


def test_sparsifies_a_model_under_torch_pruning(pruned_linear: Factory) -> None:
    model, x, expected = trained(pruned_linear)
    assert [round(layer.density, 1) for layer in report(model).layers] == [0.1, 0.1]
    sparsify(model)
    assert [type(module) for module in model] == [SparseLinear, nn.ReLU, SparseLinear]
    torch.testing.assert_close(model(x), expected, rtol=1e-5, atol=1e-5)
    densify(model)
    assert not any(layer._forward_pre_hooks for layer in model)
    torch.testing.assert_close(model(x), expected, rtol=1e-5, atol=1e-5)


def test_sparsifies_a_model_under_torch_pruning_with_masks(pruned_linear: Factory) -> None:
    model, x, expected = trained(pruned_linear)
    masks = {"0.weight": model[0].weight_mask.bool()}
    sparsify(model, masks=masks)
    assert [type(module) for module in model] == [SparseLinear, nn.ReLU, nn.Linear]
    torch.testing.assert_close(model(x), expected, rtol=1e-5, atol=1e-5)


def test_from_linear_packs_a_layer_under_torch_pruning(pruned_linear: Factory) -> None:
    model, x, _ = trained(pruned_linear)
    layer = SparseLinear.from_linear(model[0])
    torch.testing.assert_close(layer(x), model[0](x), rtol=1e-5, atol=1e-5)


def weight_norm(layer: nn.Linear) -> nn.Module:
    return torch.nn.utils.weight_norm(layer)


class Adapter(nn.Module):
    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.base_layer, self.lora_A = layer, nn.Linear(layer.in_features, 2)


def computed(layer: nn.Linear) -> nn.Module:
    weight = layer.weight.detach()
    del layer.weight
    layer.register_forward_pre_hook(lambda module, _: setattr(module, "weight", weight * 2))
    layer.weight = weight
    return layer


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
@pytest.mark.parametrize(
    ("wrap", "message"),
    [
        (weight_norm, r"0: a hook .* computes its weight; call torch\.nn\.utils\.remove_weight_norm"),
        (torch.nn.utils.spectral_norm, r"0: .*call torch\.nn\.utils\.remove_spectral_norm"),
        (parametrizations.weight_norm, r"0: a parametrization .*remove_parametrizations\(layer, 'weight'\) first"),
        (parametrizations.spectral_norm, r"0: a parametrization .*remove_parametrizations"),
        (computed, r"0: a hook .* computes its weight; make layer\.weight a parameter first"),
        (Adapter, r"0\.base_layer\.weight: an adapter \(Adapter\) .*merge it first"),
    ],
)  # fmt: skip
def test_rejects_computed_weights(
    pruned_linear: Factory, wrap: Callable[[nn.Linear], nn.Module], message: str
) -> None:
    model = nn.Sequential(wrap(pruned_linear(64, 32, 0.2)), pruned_linear(8, 64, 0.2))
    with pytest.raises(UsageError, match=message):
        sparsify(model)
    assert not report(model).sparse
    # A layer without a mask stays unchanged.
    sparsify(model, masks={"1.weight": (model[1].weight != 0).detach()})
    assert [layer.name for layer in report(model).sparse] == ["1"]


def test_from_linear_rejects_computed_weights(pruned_linear: Factory) -> None:
    with pytest.raises(UsageError, match="the layer: a parametrization computes its weight"):
        SparseLinear.from_linear(parametrizations.weight_norm(pruned_linear(8, 6)))


@pytest.mark.parametrize("round_trip", [False, True])
def test_hooks_move_and_their_handles_stay_valid(pruned_linear: Factory, round_trip: bool) -> None:
    model = nn.Sequential(pruned_linear(16, 8, 0.2))
    seen: list[str] = []
    handles = [
        model[0].register_forward_pre_hook(lambda *_: seen.append("pre")),
        model[0].register_forward_hook(lambda *_, **__: seen.append("forward"), with_kwargs=True),
        model[0].register_full_backward_hook(lambda *_: seen.append("backward")),
        model[0].register_full_backward_pre_hook(lambda *_: seen.append("backward pre")),
    ]
    sparsify(model)
    if round_trip:
        densify(model)
    x = torch.randn(3, 8, requires_grad=True)
    model(x).sum().backward()
    assert seen == ["pre", "forward", "backward pre", "backward"]
    assert x.grad is not None
    for handle in handles:
        handle.remove()
    model(x).sum().backward()
    assert len(seen) == 4


def legacy(layer: nn.Linear) -> None:
    layer.register_backward_hook(lambda *_: None)


def state(layer: nn.Linear) -> None:
    layer.register_state_dict_post_hook(lambda *_: None)


def replaced(layer: nn.Linear) -> None:
    layer.forward = layer.forward  # type: ignore[method-assign]


def extra(layer: nn.Linear) -> None:
    layer.register_buffer("scale", torch.ones(1))


@pytest.mark.parametrize(
    ("attach", "message"),
    [
        (legacy, "0: a hook from register_backward_hook .*register_full_backward_hook"),
        (state, "0: state-dict hooks cannot move"),
        (replaced, "0: its forward method was replaced"),
        (extra, "0: the new layer would lose 'scale'"),
    ],
)
def test_rejects_layers_that_would_lose_hooks_or_state(
    pruned_linear: Factory, attach: Callable[[nn.Linear], Any], message: str
) -> None:
    model = nn.Sequential(pruned_linear(64, 32, 0.2), pruned_linear(8, 64, 0.2))
    attach(model[0])
    with pytest.raises(UsageError, match=message):
        sparsify(model)
    assert not report(model).sparse


def test_shrink_rejects_layers_under_torch_pruning(tiny_model: Callable[[], Any]) -> None:
    model = tiny_model()
    layer = model.bert.encoder.layer[0]
    prune.identity(layer.intermediate.dense, "weight")
    before = copy.deepcopy({n: p.detach() for n, p in model.named_parameters()})
    for call in (shrink, lambda m: sparsify(m, shrink=True)):
        with pytest.raises(UsageError, match=r"prune\.remove\(layer, 'weight'\) first"):
            call(model)
    assert all(torch.equal(before[name], value) for name, value in model.named_parameters())
