"""Describe the machine in reports."""

from __future__ import annotations

import platform
from typing import Any

from aerogel.errors import AerogelError
from aerogel.system.cores import cores
from aerogel.system.machine import cpu_features, cpu_model

__all__ = ["describe"]


def describe() -> dict[str, Any]:
    """Return the processor, cores, vector extensions, instruction set of the sparse kernels, and system."""
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
