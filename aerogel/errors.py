"""Errors that Aerogel raises.

    AerogelError
    ├── UsageError          a flag or argument is invalid; names the flag and the accepted values
    │   └── HeadError       a loaded model does not have the method; names the methods that it has
    ├── DataError           task data cannot be read; names the file and line
    ├── TrainingError       training diverged: a loss or gradient is not finite
    ├── CheckpointError     a checkpoint directory is missing, damaged or inconsistent
    ├── FormatError         CSR, BSR or mask arrays break the rules of their format
    ├── ExportError         a model cannot be captured or rewritten
    │   └── ParityError     the outputs of an artifact differ from those of its model
    ├── RuntimeLoadError    an ONNX file or a native library cannot be loaded
    ├── ArtifactError       the folder of an exported model is incomplete, damaged or inconsistent
    ├── OutputError         a file or folder cannot be written; names it
    └── MissingExtraError   an optional dependency is not installed; names the pip command

A message is one line: what is wrong with which file, tensor or flag, and what to do. The command line prints it after
``aerogel: error:`` and exits with status 2. Any other exception is a bug and keeps its traceback.
"""

from __future__ import annotations

import importlib
from types import ModuleType

__all__ = [
    "AerogelError",
    "ArtifactError",
    "CheckpointError",
    "DataError",
    "ExportError",
    "FormatError",
    "HeadError",
    "MissingExtraError",
    "OutputError",
    "ParityError",
    "RuntimeLoadError",
    "TrainingError",
    "UsageError",
    "require",
]


class AerogelError(Exception):
    """Base class of Aerogel's errors."""


class UsageError(AerogelError, ValueError):
    """A flag or argument is invalid."""


class HeadError(UsageError):
    """A loaded model does not have the method."""


class DataError(AerogelError, ValueError):
    """Task data cannot be read."""


class TrainingError(AerogelError):
    """Training diverged."""


class CheckpointError(AerogelError):
    """A checkpoint directory is missing, damaged or inconsistent."""


class FormatError(AerogelError, ValueError):
    """CSR, BSR or mask arrays break the rules of their format."""


class ExportError(AerogelError):
    """A model cannot be captured or rewritten."""


class ParityError(ExportError):
    """The outputs of an artifact differ from those of its model."""


class RuntimeLoadError(AerogelError):
    """An ONNX file or a native library cannot be loaded."""


class ArtifactError(AerogelError):
    """The folder of an exported model is incomplete, damaged or inconsistent."""


class OutputError(AerogelError, OSError):
    """A file or folder cannot be written."""


class MissingExtraError(AerogelError, ImportError):
    """An optional dependency is not installed."""


def require(module: str, extra: str) -> ModuleType:
    """Import and return `module`.

    Raises:
        MissingExtraError: `module` is not installed; names the `extra` that installs it.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module.partition(".")[0]:
            raise
        raise MissingExtraError(f"{module} is not installed; run: pip install 'aerogel[{extra}]'") from error
