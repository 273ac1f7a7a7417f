"""Prune BERT-class encoders while they learn, and run them sparse.

Importing this package loads neither torch, transformers, onnx nor onnxruntime; each function below imports
what it needs when it is called. `load` and `Model`, which need numpy, are imported when they are first named.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aerogel.errors import AerogelError
from aerogel.kernels.cpu.library import library_path
from aerogel.runtime import session

if TYPE_CHECKING:
    from aerogel.model import Model, load

__all__ = ["AerogelError", "Model", "__version__", "library_path", "load", "session"]

__version__ = "0.1.0"

_LAZY = {"Model": "aerogel.model", "load": "aerogel.model"}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_LAZY[name]), name)
