"""What of a model an artifact does not have: outputs that are not exported, and weights that only they need."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from aerogel.export.torch_reference import TorchReference

__all__ = ["left_out"]


def left_out(source: TorchReference) -> dict[str, dict[str, str]]:
    """Outputs and weights that are not in the artifact, each by its name with the reason.

    A weight is left out if no exported output has a gradient by it.

    Returns:
        ``{"outputs": {name: reason}, "weights": {name: reason}}``.
    """
    import torch

    example = source.tokenize(["a first text", "another"], max_length=16)
    parameters = dict(source.model.named_parameters())
    fixed = [parameter for parameter in parameters.values() if not parameter.requires_grad]
    try:
        for parameter in fixed:
            parameter.requires_grad_(True)
        with torch.enable_grad():
            tensors = {name: torch.from_numpy(array) for name, array in example.items()}
            result = {**source.model(**tensors), **source.forward(tensors, tensors["attention_mask"])}
        # What a head reads is not lost.
        read = ("last_hidden_state", "logits") if source.head is not None else ()
        others = [name for name in result if name not in (*source.outputs, *read)]
        needed = _needed([result[name] for name in source.outputs], parameters)
        needed_by = {name: _needed([result[name]], parameters) for name in others}
    finally:
        for parameter in fixed:
            parameter.requires_grad_(False)
    weights = {}
    for name in parameters:
        if name not in needed:
            users = [other for other in others if name in needed_by[other]]
            weights[name] = f"only {' and '.join(users)} needs it" if users else "no output needs it"
    return {
        "outputs": {name: f"exported is {', '.join(source.outputs)}" for name in others},
        "weights": weights,
    }


def _needed(outputs: Iterable[Any], parameters: dict[str, torch.nn.Parameter]) -> set[str]:
    """Names of the parameters that tensors among `outputs` depend on."""
    import torch

    ends = [value.sum() for value in outputs if isinstance(value, torch.Tensor) and value.requires_grad]
    if not ends:
        return set()
    total = torch.stack(ends).sum()
    found = torch.autograd.grad(total, list(parameters.values()), retain_graph=True, allow_unused=True)
    return {name for name, gradient in zip(parameters, found, strict=True) if gradient is not None}
