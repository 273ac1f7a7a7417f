"""The text files of a corpus."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from aerogel.errors import UsageError

__all__ = ["text_files"]


def text_files(paths: Sequence[Path]) -> list[Path]:
    """List files, and search directories for files, without hidden ones. Sort within each directory.

    Raises:
        UsageError: a path does not exist or is given twice, or a directory has no files.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = (file.relative_to(path) for file in path.rglob("*") if file.is_file())
            files = [path / file for file in sorted(inside) if not any(p.startswith(".") for p in file.parts)]
            if not files:
                raise UsageError(f"--text {path}: the directory has no files; give a directory of text files")
            found += files
        elif path.is_file():
            found.append(path)
        else:
            raise UsageError(f"--text {path}: no such file or directory; check the path")
    seen: set[Path] = set()
    for file in found:
        if file.resolve() in seen:
            raise UsageError(f"--text {file}: given twice; name each file once")
        seen.add(file.resolve())
    return found
