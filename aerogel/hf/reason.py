"""Summarize an error of another library in one line."""

from __future__ import annotations

import re
import traceback
from pathlib import Path

__all__ = ["reason"]

_MAX_LENGTH = 300
_ANSI_COLOR = re.compile(r"\x1b\[[0-9;]*m")


def reason(error: BaseException) -> str:
    """Type and first line of the root cause of an error, and the line of model code that raised it.

    The outermost error of torch.export and torch.onnx is general advice; its root cause names the problem. Messages of
    a KeyError or an assertion need the type and the line of code to be understood.
    """
    while error.__cause__ is not None:
        error = error.__cause__
    lines = (line.strip() for line in _ANSI_COLOR.sub("", str(error)).splitlines())
    text = next(filter(None, lines), "")
    summary = f"{type(error).__name__}: {text}" if text else type(error).__name__
    if len(summary) > _MAX_LENGTH:
        summary = summary[: _MAX_LENGTH - 3] + "..."
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if _is_model(frame.filename)]
    if frames and frames[-1].line:
        summary += f" at `{frames[-1].line.strip()}` in {Path(frames[-1].filename).name}"
    return summary


def _is_model(file: str) -> bool:
    """Whether a Python file defines a transformers model."""
    path = Path(file)
    return path.name.startswith("modeling_") and path.parent.parent.name == "models"
