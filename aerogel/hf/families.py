"""Names of modules and configuration fields, by encoder family: BERT, RoBERTa, DistilBERT, ...

To support a family with other names, add a row to these tables; no other module knows a family by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = [
    "ATTENTIONS",
    "FEED_FORWARDS",
    "HEAD_COUNTS",
    "HEAD_WIDTHS",
    "PARTS",
    "AttentionNames",
    "FeedForwardNames",
    "config_sizes",
    "head_count",
]

PARTS = {
    "Q": ("query", "q_lin", "q_proj"),
    "K": ("key", "k_lin", "k_proj"),
    "V": ("value", "v_lin", "v_proj"),
    "O": ("attention.output.dense", "attention.out_lin", "out_proj"),
    "FFN in": ("intermediate.dense", "ffn.lin1", "fc1"),
    "FFN out": ("output.dense", "ffn.lin2", "fc2"),
}
"""Matrices of a layer, and the endings of their modules' names. The first match counts."""


@dataclass(frozen=True)
class AttentionNames:
    """Paths inside a layer: the attention module, its query, key and value, and the output matrix."""

    module: str
    query: str
    key: str
    value: str
    output: str


@dataclass(frozen=True)
class FeedForwardNames:
    """Paths inside a layer: first matrix, activation, second matrix."""

    first: str
    activation: str
    second: str


ATTENTIONS = (
    AttentionNames("attention.self", "query", "key", "value", "attention.output.dense"),
    AttentionNames("attention", "q_lin", "k_lin", "v_lin", "attention.out_lin"),
)
FEED_FORWARDS = (
    FeedForwardNames("intermediate.dense", "intermediate.intermediate_act_fn", "output.dense"),
    FeedForwardNames("ffn.lin1", "ffn.activation", "ffn.lin2"),
)

HEAD_COUNTS = ("num_attention_heads", "n_heads")
"""Names of the number of heads, in attention modules and configurations."""

HEAD_WIDTHS = ("all_head_size", "dim")
"""Names of heads times head size, in attention modules."""

_SIZES = {
    "layers": ("num_hidden_layers", "n_layers"),
    "hidden": ("hidden_size", "dim"),
    "inner": ("intermediate_size", "hidden_dim"),
    "heads": HEAD_COUNTS,
}


def config_sizes(config: Mapping[str, Any]) -> dict[str, Any]:
    """Layers, hidden size, inner size and heads in a config.json; None for each that is absent."""
    return {
        size: next((config[name] for name in names if name in config), None) for size, names in _SIZES.items()
    }


def head_count(config: Mapping[str, Any]) -> int | None:
    """Attention heads per layer in a config.json; None unless it is a positive integer."""
    found = config_sizes(config)["heads"]
    return found if type(found) is int and found > 0 else None
