"""The cache folder, for cost models of this machine and tile sizes tuned on a GPU."""

from __future__ import annotations

import os
import sys
from pathlib import Path

__all__ = ["CACHE_VARIABLE", "cache_folder"]

CACHE_VARIABLE = "AEROGEL_CACHE"


def cache_folder() -> Path:
    """The folder in ``AEROGEL_CACHE``, or ``aerogel`` in the user's cache directory. It may not exist."""
    if chosen := os.environ.get(CACHE_VARIABLE):
        return Path(chosen)
    if home := os.environ.get("XDG_CACHE_HOME"):
        return Path(home) / "aerogel"
    if sys.platform == "win32" and (local := os.environ.get("LOCALAPPDATA")):
        return Path(local) / "aerogel"
    return Path.home() / ("Library/Caches" if sys.platform == "darwin" else ".cache") / "aerogel"
