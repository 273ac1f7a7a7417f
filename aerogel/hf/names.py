"""Parse module and parameter names of transformers models: repeated layers, base model, head.

The repeated layers of an encoder are in a ModuleList, so the paths of their modules have a numeric part.
"""

from __future__ import annotations

import re
from typing import Any

__all__ = ["in_base", "layer_number", "name_inside", "repeated"]


def layer_number(name: str) -> int | None:
    """Number of the repeated layer in a weight's name; None for a weight outside of them."""
    found = re.search(r"\.(\d{1,6})\.", name)
    return int(found[1]) if found else None


def name_inside(name: str) -> str:
    """A weight's name relative to its layer; the same for all layers."""
    return re.sub(r"^.*?\.\d+\.", "", name.removesuffix(".weight"))


def repeated(model: Any, name: str) -> bool:
    """Whether the module or parameter `name` is in a repeated layer of the encoder; layers of the head do not count."""
    return in_base(model, name) and any(part.isdecimal() for part in name.split("."))


def in_base(model: Any, name: str) -> bool:
    """Whether `name` is in the base model, not in the head."""
    prefix = getattr(model, "base_model_prefix", "")
    return name.startswith(f"{prefix}.") if prefix and hasattr(model, prefix) else True
