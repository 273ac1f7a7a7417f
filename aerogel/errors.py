"""Every error that Aerogel raises on purpose.

    AerogelError
    ├── UsageError          a flag or argument that cannot be meant; names the flag and the accepted values
    │   └── HeadError       a method that a loaded model does not have; names those that it has
    ├── DataError           task data that cannot be read; names the file and line
    ├── TrainingError       a run that stopped making sense: a loss or gradient that is not finite
    ├── CheckpointError     a checkpoint directory that is missing, damaged or contradicts itself
    ├── FormatError         a CSR, BSR or mask structure that breaks its own rules
    ├── ExportError         a model that cannot be captured or rewritten
    │   └── ParityError     an artifact whose outputs differ from the model it was made from
    ├── RuntimeLoadError    an ONNX file or a native library that cannot be loaded
    ├── ArtifactError       an exported model whose folder is incomplete, damaged or contradicts itself
    ├── OutputError         a file or folder that cannot be written; names it
    └── MissingExtraError   an optional dependency that is not installed; names the pip command

Messages are one line: what is wrong, in which file, tensor or flag, and how to mend it. The command line prints
them after ``aerogel: error:`` and exits with status 2; anything that is not an ``AerogelError`` is a bug and
keeps its traceback.
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
    """Base of all errors raised on purpose."""


class UsageError(AerogelError, ValueError):
    """A flag or argument that cannot be meant."""


class HeadError(UsageError):
    """A method that a loaded model does not have."""


class DataError(AerogelError, ValueError):
    """Task data that cannot be read as its task demands."""


class TrainingError(AerogelError):
    """A training run that stopped making sense."""


class CheckpointError(AerogelError):
    """A checkpoint directory that is missing, damaged or contradicts itself."""


class FormatError(AerogelError, ValueError):
    """A sparse structure that breaks the rules of its format."""


class ExportError(AerogelError):
    """A model that cannot be captured or rewritten."""


class ParityError(ExportError):
    """An artifact whose outputs differ from those of the model it was made from."""


class RuntimeLoadError(AerogelError):
    """An ONNX file or a native library that cannot be loaded."""


class ArtifactError(AerogelError):
    """An exported model whose folder is incomplete, damaged or contradicts itself."""


class OutputError(AerogelError, OSError):
    """A file or folder that cannot be written."""


class MissingExtraError(AerogelError, ImportError):
    """An optional dependency that is not installed."""


def require(module: str, extra: str) -> ModuleType:
    """Import `module`, or raise MissingExtraError that names the `extra` which brings it."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module.partition(".")[0]:
            raise
        raise MissingExtraError(f"{module} is not installed; run: pip install 'aerogel[{extra}]'") from error
