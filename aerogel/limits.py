"""How long a text a model takes."""

from __future__ import annotations

from typing import Any

__all__ = ["longest_sequence"]

# Longest sequence to expect of a model that sets no limit.
_UNBOUNDED = 512


def longest_sequence(model: Any, tokenizer: Any, unbounded: int = _UNBOUNDED) -> int:
    """Tokens, special ones included, of the longest sequence that a model and its tokenizer both take.

    Args:
        model: a transformers model.
        tokenizer: its tokenizer.
        unbounded: what a model without a limit of its own is taken to allow.
    """
    import torch

    # Tokenizers without a limit of their own say 1e30.
    limits = [tokenizer.model_max_length]
    # XLNet says -1 where it means that it has no limit.
    said = getattr(model.config, "max_position_embeddings", None) or 0
    limits.append(said if said > 0 else unbounded)
    for path, module in model.named_modules():
        if path.endswith("position_embeddings") and isinstance(module, torch.nn.Embedding):
            # RoBERTa and its kin count positions from behind the padding token's number.
            start = 0 if module.padding_idx is None else module.padding_idx + 1
            limits.append(module.num_embeddings - start)
    return int(min(limits))
