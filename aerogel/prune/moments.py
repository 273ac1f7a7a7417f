"""Second moments of the inputs of linear layers, while a pruned model follows its dense original."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["Call", "InputGroup", "Moments", "calls_of", "input_groups", "input_moments", "moments"]

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


@dataclass(frozen=True)
class Call:
    """A call of a module, to be repeated: a forward pass that begins at one layer of the encoder."""

    module: nn.Module
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    mask: Tensor


def calls_of(model: nn.Module, path: str, batches: Batches) -> list[Call]:
    """The call of the submodule `path` in the forward pass of each batch; for "", of the model itself."""
    if not path:
        return [Call(model, (), batch, batch["attention_mask"]) for batch in batches]
    module = model.get_submodule(path)
    found: list[Call] = []

    def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        found.append(Call(module, args, kwargs, mask))
        raise _Stop

    handle = module.register_forward_pre_hook(hook, with_kwargs=True)
    try:
        for batch in batches:
            mask = batch["attention_mask"]
            with torch.inference_mode(), contextlib.suppress(_Stop):
                model(**batch)
    finally:
        handle.remove()
    return found


def moments(
    dense: tuple[Sequence[Call], nn.Linear],
    pruned: tuple[Sequence[Call], nn.Linear],
    times: int = 1,
) -> Moments:
    """Moments of the inputs of one layer in two models.

    Args:
        dense: calls in the dense model that run the layer, and the layer in it.
        pruned: the same calls in the model as pruned so far, and the same layer in it.
        times: how often each call runs the layer.
    """
    width = dense[1].in_features
    sums = Moments(*(torch.zeros(width, width) for _ in range(3)))
    for one, other in zip(dense[0], pruned[0], strict=True):
        x, z = _inputs(one, dense[1], times), _inputs(other, pruned[1], times)
        sums.dense.addmm_(x.T, x)
        sums.cross.addmm_(x.T, z)
        sums.pruned.addmm_(z.T, z)
    return sums


def _inputs(call: Call, layer: nn.Linear, times: int) -> Tensor:
    """Inputs of a layer in a call, ``[real tokens, in]``."""
    found: list[Tensor] = []

    def hook(_: Any, inputs: tuple[Tensor, ...]) -> None:
        found.append(_real(inputs[0], call.mask))
        if len(found) == times:
            raise _Stop

    handle = layer.register_forward_pre_hook(hook)
    try:
        with torch.inference_mode(), contextlib.suppress(_Stop):
            call.module(*call.args, **call.kwargs)
    finally:
        handle.remove()
    return torch.cat(found)


def _real(states: Tensor, mask: Tensor) -> Tensor:
    """Rows of the real tokens: states ``[rows, tokens, in]``; other shapes are taken whole."""
    if states.shape[:-1] == mask.shape:
        return states[mask.bool()].float()
    return states.reshape(-1, states.shape[-1]).float()
