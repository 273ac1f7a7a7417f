"""Paths of the files of an exported model."""

from __future__ import annotations

from pathlib import Path

__all__ = ["manifest_path"]


def manifest_path(model: Path) -> Path:
    """Path of the manifest of the exported file `model`."""
    return model.with_suffix(".manifest.json")
