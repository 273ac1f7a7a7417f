"""Which parameters of a Hugging Face model are pruned, counted or frozen.

Everything is found by structure, not by class: an encoder's repeated layers stand in a ModuleList, so the path of each
of their modules has a numeric part.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from aerogel.errors import UsageError
from aerogel.hf.names import in_base, repeated

__all__ = ["embedding_parameters", "encoder_parameters", "pretrained_part", "prunable"]


def prunable(model: nn.Module) -> dict[str, nn.Linear]:
    """The Linear modules of the repeated encoder layers, by the full name of their weight.

    BERT-base has 72: query, key, value, attention output, intermediate and output of 12 layers. Embeddings, pooler and
    head are not among them.

    Raises:
        UsageError: there are none, so this is not a model that can be pruned.
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
    """Parameters of the repeated layers, biases and LayerNorm included: what densities are reported over."""
    return sum(p.numel() for name, p in model.named_parameters() if repeated(model, name))


def embedding_parameters(model: nn.Module) -> list[nn.Parameter]:
    """Parameters of the embedding module: words, positions, types and their LayerNorm."""
    base: Any = getattr(model, "base_model", model)
    words: nn.Module = base.get_input_embeddings()
    path = next(name for name, module in base.named_modules() if module is words)
    return list(base.get_submodule(path.partition(".")[0]).parameters())


def pretrained_part(model: nn.Module, name: str) -> bool:
    """Whether a parameter called `name` is of what pre-training made: neither the head nor the pooler."""
    return in_base(model, name) and "pooler" not in name.split(".")
