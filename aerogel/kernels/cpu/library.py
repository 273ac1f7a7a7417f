"""Where the native library is."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from aerogel.errors import RuntimeLoadError
from aerogel.kernels import cpu

__all__ = ["LIBRARY_VARIABLE", "find_library", "library_path"]

LIBRARY_VARIABLE = "AEROGEL_LIBRARY"
_NAMES = {"win32": "aerogel.dll", "darwin": "libaerogel.dylib"}


def find_library() -> Path | None:
    """Path of the native library, or None if it was not built.

    ``AEROGEL_LIBRARY`` names another build of it, or no library if it is empty. Otherwise the library is in the folder
    of `aerogel.kernels.cpu`. An editable installation has two such folders: the sources and the installed one.
    """
    chosen = os.environ.get(LIBRARY_VARIABLE)
    if chosen is not None:
        return Path(chosen) if chosen else None
    name = _NAMES.get(sys.platform, "libaerogel.so")
    return next((path for folder in cpu.__path__ if (path := Path(folder) / name).is_file()), None)


def library_path() -> str:
    """Path to pass to ``register_custom_ops_library`` in any language that has ONNX Runtime.

    Raises:
        RuntimeLoadError: the library was not built for this installation.
    """
    path = find_library()
    if path is None:
        raise RuntimeLoadError(
            "the native library is not built; install a C++17 compiler and reinstall aerogel, "
            "or run the model on stock ONNX Runtime at dense speed"
        )
    if not path.is_file():
        raise RuntimeLoadError(
            f"{LIBRARY_VARIABLE}={path} is not a file; unset it or point it at a built library"
        )
    return str(path)
