"""Which names in a Hugging Face model are of its encoder's repeated layers.

Found by structure, not by class: the layers stand in a ModuleList, so the path of each of their modules has a numeric
part.
"""

from __future__ import annotations

import re
from typing import Any

__all__ = ["in_base", "layer_number", "name_inside", "repeated"]


def layer_number(name: str) -> int | None:
    """Number of the repeated layer that a weight called `name` belongs to; None for one outside of them."""
    found = re.search(r"\.(\d{1,6})\.", name)
    return int(found[1]) if found else None


def name_inside(name: str) -> str:
    """A weight's name inside its layer, which is the same for all layers."""
    return re.sub(r"^.*?\.\d+\.", "", name.removesuffix(".weight"))


def repeated(model: Any, name: str) -> bool:
    """Whether a module or parameter called `name` belongs to a repeated layer of the encoder, not of the head."""
    return in_base(model, name) and any(part.isdecimal() for part in name.split("."))


def in_base(model: Any, name: str) -> bool:
    """Whether `name` is of the model that the head stands on."""
    prefix = getattr(model, "base_model_prefix", "")
    return name.startswith(f"{prefix}.") if prefix and hasattr(model, prefix) else True
