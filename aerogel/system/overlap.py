"""Check that no output of a command overwrites one of its inputs or another output."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from aerogel.errors import UsageError
from aerogel.system.outputs import is_stream

__all__ = ["check_inputs_preserved", "check_outputs_distinct"]


def check_outputs_distinct(
    outputs: Mapping[str, Path | None],
    files: Mapping[str, Path | None],
    folders: Mapping[str, Path | None] | None = None,
) -> None:
    """Check that no output overwrites an input or another output.

    Symbolic and hard links are followed. Several outputs may name one device or pipe, because it is not overwritten.

    Args:
        outputs: files to write, by flag; None for a flag that is not given.
        files: input files, by description.
        folders: input folders, by description.

    Raises:
        UsageError: an output is an input file or an earlier output, is inside an input folder, or is a link to a file
            in one.
    """
    inputs = {name: path for name, path in (folders or {}).items() if path is not None}
    taken = {name: path for name, path in files.items() if path is not None}
    for flag, path in outputs.items():
        if path is None or is_stream(path):
            continue
        for name, folder in inputs.items():
            if Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder)):
                raise UsageError(f"{flag} {path} lies in {name}; choose another folder")
            if _linked(path, folder):
                raise UsageError(f"{flag} {path} would overwrite a file of {name}; choose another name")
        for name, other in taken.items():
            if _same(path, other):
                raise UsageError(f"{flag} {path} would overwrite {name}; choose another name")
        taken[flag] = path


def check_inputs_preserved(outputs: Mapping[str, Path], inputs: Mapping[str, Path]) -> None:
    """Check that no output file or folder overwrites or replaces an input; outputs may be inside an input folder.

    Raises:
        UsageError: an output is an input, contains one, or is a link to a file in an input folder.
    """
    for flag, path in outputs.items():
        if is_stream(path):
            continue
        for name, other in inputs.items():
            inside = other.exists() and Path(os.path.realpath(other)).is_relative_to(os.path.realpath(path))
            if inside or _same(path, other) or _linked(path, other):
                raise UsageError(f"{flag} {path} would overwrite {name} {other}; choose another name")


def _same(one: Path, other: Path) -> bool:
    """Whether two paths name the same file, which may not exist."""
    if os.path.realpath(one) == os.path.realpath(other):
        return True
    try:
        return one.samefile(other)
    except OSError:  # a path does not exist or is a circular link
        return False


def _linked(path: Path, folder: Path) -> bool:
    """Whether the file `path` is also in `folder`, through a symbolic or hard link."""
    if not (path.is_file() and folder.is_dir()):
        return False
    status = path.stat()
    for root, _, names in os.walk(folder):
        for name in names:
            try:
                if os.path.samestat(os.stat(os.path.join(root, name)), status):  # noqa: PTH116, PTH118 - many files
                    return True
            except OSError:  # a dangling link
                continue
    return False
