"""Architectures of well-known encoders: one Hugging Face configuration per .json file, found by file name."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

from aerogel.errors import UsageError

__all__ = ["load", "names"]

_SUFFIX = ".json"


def names() -> list[str]:
    """Names of all architectures, sorted."""
    found = (file.name for file in files(__name__).iterdir())
    return sorted(name.removesuffix(_SUFFIX) for name in found if name.endswith(_SUFFIX))


def load(name: str) -> dict[str, Any]:
    """Configuration of the architecture `name`, including model_type.

    Raises:
        UsageError: the name is unknown; the message lists the known ones.
    """
    if name not in names():
        raise UsageError(f"unknown --arch {name!r}; known: {', '.join(names())}")
    fields: dict[str, Any] = json.loads(files(__name__).joinpath(name + _SUFFIX).read_text(encoding="utf-8"))
    return fields
