"""Paths of the files of an exported model."""

from __future__ import annotations

import re
from pathlib import Path

__all__ = ["data_files", "manifest_path"]

# aerogel.export.targets names it by the SHA-256 of its contents.
_DATA = re.compile(r"[0-9a-f]{12}\.data")


def manifest_path(model: Path) -> Path:
    """Path of the manifest of the exported file `model`."""
    return model.with_suffix(".manifest.json")


def data_files(model: Path) -> list[Path]:
    """The files with weights of the exported file `model`, if those are not in it; those of earlier exports too."""
    begin = f"{model.name}."
    return sorted(
        file
        for file in model.parent.glob("*.data")
        if file.name.startswith(begin) and _DATA.fullmatch(file.name.removeprefix(begin))
    )
