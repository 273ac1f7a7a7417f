"""CPU kernels: a C++ library (src/) that is at once an ONNX Runtime custom-op library and a small C ABI.

The sources are built by CMakeLists.txt at the root when the package is installed.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

__all__ = ["LIBRARY_VARIABLE", "find_library"]

LIBRARY_VARIABLE = "AEROGEL_LIBRARY"
_NAMES = {"win32": "aerogel.dll", "darwin": "libaerogel.dylib"}


def find_library() -> Path | None:
    """Path of the native library, or None where it was not built.

    ``AEROGEL_LIBRARY`` names another build of it (or, set to nothing, none). Otherwise it lies in this folder, which
    for an editable installation is two folders: the sources' and the installed one.
    """
    chosen = os.environ.get(LIBRARY_VARIABLE)
    if chosen is not None:
        return Path(chosen) if chosen else None
    name = _NAMES.get(sys.platform, "libaerogel.so")
    return next((path for folder in __path__ if (path := Path(folder) / name).is_file()), None)
