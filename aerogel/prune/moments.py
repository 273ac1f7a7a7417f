"""Second moments of the inputs of linear layers, while a pruned model follows its dense original."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["InputGroup", "Moments", "input_groups", "input_moments", "moments"]

Batches = Sequence[Mapping[str, Tensor]]


@dataclass
class Moments:
    """Sums over tokens of the products of two inputs of one linear layer.

    With x the input in the dense model and z that in the model as pruned so far, both ``[in]``:

    Attributes:
        dense: sum of x x^T, float32 ``[in, in]``.
        cross: sum of x z^T.
        pruned: sum of z z^T.
    """

    dense: Tensor
    cross: Tensor
    pruned: Tensor


class _Stop(Exception):  # noqa: N818  # not an error
    """Ends a forward pass: nothing behind the layer is needed."""


@dataclass
class InputGroup:
    """Layers that read the same tensor, as query, key and value do.

    Attributes:
        names: the layers.
        calls: how often one forward pass runs each: several times if repeated layers share their weights.
    """

    names: list[str]
    calls: int = 1


def input_groups(
    model: nn.Module, layers: Mapping[str, nn.Linear], batch: Mapping[str, Tensor]
) -> list[InputGroup]:
    """Group the layers by their input, in the order in which they first run on a batch.

    Layers that the model does not run are in no group.
    """
    seen: list[tuple[Tensor, InputGroup]] = []
    group_of: dict[str, InputGroup] = {}

    def note(name: str) -> Callable[[Any, tuple[Tensor, ...]], None]:
        def hook(_: Any, inputs: tuple[Tensor, ...]) -> None:
            if name in group_of:
                group_of[name].calls += group_of[name].names[0] == name
                return
            # The tensors are kept, so that no two have the same identity.
            group = next((group for tensor, group in seen if tensor is inputs[0]), None)
            if group is None:
                group = InputGroup([])
                seen.append((inputs[0], group))
            group.names.append(name)
            group_of[name] = group

        return hook

    handles = [layer.register_forward_pre_hook(note(name)) for name, layer in layers.items()]
    try:
        with torch.inference_mode():
            model(**batch)
    finally:
        for handle in handles:
            handle.remove()
    return [group for _, group in seen]


def input_moments(model: nn.Module, layers: Mapping[str, nn.Linear], batches: Batches) -> dict[str, Tensor]:
    """Sum of x x^T over the tokens of all batches, float32 ``[in, in]``, for the input x of each layer."""
    found = {name: torch.zeros(layer.in_features, layer.in_features) for name, layer in layers.items()}
    mask = torch.empty(0)

    def add(name: str) -> Callable[[Any, tuple[Tensor, ...]], None]:
        def hook(_: Any, inputs: tuple[Tensor, ...]) -> None:
            rows = _real(inputs[0], mask)
            found[name].addmm_(rows.T, rows)

        return hook

    handles = [layer.register_forward_pre_hook(add(name)) for name, layer in layers.items()]
    try:
        with torch.inference_mode():
            for batch in batches:
                mask = batch["attention_mask"]
                model(**batch)
    finally:
        for handle in handles:
            handle.remove()
    return found


def moments(
    dense: tuple[nn.Module, nn.Linear],
    pruned: tuple[nn.Module, nn.Linear],
    batches: Batches,
    calls: int = 1,
) -> Moments:
    """Moments of the inputs of one layer in two models.

    Args:
        dense: the dense model, and the layer in it.
        pruned: the model as pruned so far, and the same layer in it.
        batches: model inputs.
        calls: see `InputGroup`.
    """
    width = dense[1].in_features
    sums = Moments(*(torch.zeros(width, width) for _ in range(3)))
    for batch in batches:
        x, z = (_inputs(model, layer, batch, calls) for model, layer in (dense, pruned))
        sums.dense.addmm_(x.T, x)
        sums.cross.addmm_(x.T, z)
        sums.pruned.addmm_(z.T, z)
    return sums


def _inputs(model: nn.Module, layer: nn.Linear, batch: Mapping[str, Tensor], calls: int) -> Tensor:
    """Inputs of a layer in one forward pass, ``[real tokens of all calls, in]``."""
    found: list[Tensor] = []

    def hook(_: Any, inputs: tuple[Tensor, ...]) -> None:
        found.append(_real(inputs[0], batch["attention_mask"]))
        if len(found) == calls:
            raise _Stop

    handle = layer.register_forward_pre_hook(hook)
    try:
        with torch.inference_mode():
            model(**batch)
    except _Stop:
        pass
    finally:
        handle.remove()
    return torch.cat(found)


def _real(states: Tensor, mask: Tensor) -> Tensor:
    """Rows of the real tokens: states ``[rows, tokens, in]``; other shapes are taken whole."""
    if states.shape[:-1] == mask.shape:
        return states[mask.bool()].float()
    return states.reshape(-1, states.shape[-1]).float()
