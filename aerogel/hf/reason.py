"""Why another library failed, in one line."""

from __future__ import annotations

import re
import traceback
from pathlib import Path

__all__ = ["reason"]

_LONGEST = 300
# What torch.export adds to an expression for those who debug it.
_HINTS = " (unhinted: "
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def reason(error: BaseException) -> str:
    """The type and the first line of the error that started it, and the line of the model that raised it.

    The outermost error of torch.export and torch.onnx is general advice; its first cause says what happened. The text
    of a KeyError or of an assertion says little without its type and its line of code.
    """
    while error.__cause__ is not None:
        error = error.__cause__
    lines = (line.strip() for line in _COLOUR.sub("", str(error)).splitlines())
    text = next(filter(None, lines), "").partition(_HINTS)[0]
    if text.endswith(":"):  # what it announces is on further lines
        text = (text.rpartition(". ")[0] or text).rstrip(":")
    said = f"{type(error).__name__}: {text}" if text else type(error).__name__
    if len(said) > _LONGEST:
        said = said[: _LONGEST - 3] + "..."
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if _is_model(frame.filename)]
    if frames and frames[-1].line:
        said += f" at `{frames[-1].line.strip()}` in {Path(frames[-1].filename).name}"
    return said


def _is_model(file: str) -> bool:
    """Whether a file of Python code defines a model of transformers."""
    path = Path(file)
    return path.name.startswith("modeling_") and path.parent.parent.name == "models"
