"""Select the parameters of a transformers model: prunable weights, encoder, embeddings.

The selection uses the structure, not the class: the repeated layers of an encoder are in a ModuleList, so the paths of
their modules have a numeric part.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from aerogel.errors import UsageError
from aerogel.hf.names import in_base, repeated

__all__ = ["embedding_parameters", "encoder_parameters", "pretrained_part", "prunable"]


def prunable(model: nn.Module) -> dict[str, nn.Linear]:
    """Linear modules of the repeated encoder layers, by the full name of their weight.

    BERT-base has 72: query, key, value, attention output, intermediate and output of 12 layers. Embeddings, pooler and
    head are excluded.

    Raises:
        UsageError: the model has no such modules and cannot be pruned.
    """
    found = {
        f"{name}.weight": module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and repeated(model, name)
    }
    if not found:
        raise UsageError(
            f"{type(model).__name__} has no Linear modules in repeated layers; --model must be an encoder"
        )
    return found


def encoder_parameters(model: nn.Module) -> int:
    """Number of parameters of the repeated layers, biases and LayerNorm included; densities are relative to it."""
    return sum(p.numel() for name, p in model.named_parameters() if repeated(model, name))


def embedding_parameters(model: nn.Module) -> list[nn.Parameter]:
    """Parameters of the embedding module: words, positions, token types and LayerNorm."""
    base: Any = getattr(model, "base_model", model)
    words: nn.Module = base.get_input_embeddings()
    path = next(name for name, module in base.named_modules() if module is words)
    return list(base.get_submodule(path.partition(".")[0]).parameters())


def pretrained_part(model: nn.Module, name: str) -> bool:
    """Whether the parameter `name` is pre-trained: part of neither the head nor the pooler."""
    return in_base(model, name) and "pooler" not in name.split(".")
