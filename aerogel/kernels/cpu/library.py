"""Find the native library."""

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
    """Return the path of the native library, or None if it was not built.

    ``AEROGEL_LIBRARY`` selects another build; if it is set but empty, no library is used. By default the library is in
    the folder of `aerogel.kernels.cpu`; an editable installation has two such folders, of the sources and of the build.
    """
    chosen = os.environ.get(LIBRARY_VARIABLE)
    if chosen is not None:
        return Path(chosen) if chosen else None
    name = _NAMES.get(sys.platform, "libaerogel.so")
    return next((path for folder in cpu.__path__ if (path := Path(folder) / name).is_file()), None)


def library_path() -> str:
    """Return the path for ONNX Runtime's ``register_custom_ops_library``, in any language.

    Raises:
        RuntimeLoadError: the library was not built, or AEROGEL_LIBRARY is not a file.
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
