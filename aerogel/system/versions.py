"""Versions of installed packages."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import metadata

import aerogel

__all__ = ["versions"]


def versions(packages: Iterable[str]) -> dict[str, str | None]:
    """Installed version of each package by name, None for those not installed. Imports nothing."""
    return {name: _version(name) for name in packages}


def _version(name: str) -> str | None:
    if name == "aerogel":
        # A source tree on the path has no metadata, or the metadata of another installation.
        return aerogel.__version__
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
