"""The machine as a report describes it."""

from __future__ import annotations

import platform
from typing import Any

from aerogel.errors import AerogelError
from aerogel.system.cores import cores
from aerogel.system.machine import cpu_features, cpu_model

__all__ = ["describe"]


def describe() -> dict[str, Any]:
    """The machine as it stands in reports, with the instruction set that the sparse kernels use."""
    return {
        "cpu": cpu_model(),
        "cores": cores(),
        "features": cpu_features(),
        "kernels": _selected(),
        "system": platform.platform(),
    }


def _selected() -> str | None:
    try:
        from aerogel.kernels.cpu import native

        return native.selected()
    except (AerogelError, ImportError):
        return None
