"""The text files of a corpus."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from aerogel.errors import UsageError

__all__ = ["text_files"]


def text_files(paths: Sequence[Path]) -> list[Path]:
    """The files themselves and all files below the directories, hidden ones left out; sorted within each directory.

    Raises:
        UsageError: a path does not exist, is given twice, or a directory has no files.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = (file.relative_to(path) for file in path.rglob("*") if file.is_file())
            files = [path / file for file in sorted(inside) if not any(p.startswith(".") for p in file.parts)]
            if not files:
                raise UsageError(f"--text {path} has no files; give the directory of the text")
            found += files
        elif path.is_file():
            found.append(path)
        else:
            raise UsageError(f"--text {path} is neither a file nor a directory")
    seen: set[Path] = set()
    for file in found:
        if file.resolve() in seen:
            raise UsageError(f"--text {file} is given twice; name each file once")
        seen.add(file.resolve())
    return found
