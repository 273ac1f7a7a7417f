"""No output of a command is one of its inputs, or another one of its outputs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from aerogel.errors import UsageError
from aerogel.system.outputs import is_stream

__all__ = ["demand_apart", "demand_kept"]


def demand_apart(
    outputs: Mapping[str, Path | None],
    files: Mapping[str, Path | None],
    folders: Mapping[str, Path | None] | None = None,
) -> None:
    """Refuse outputs that would overwrite one another or an input.

    Symbolic and hard links are followed. A device or a pipe can be given several times: nothing there is overwritten.

    Args:
        outputs: files to write, by flag; None for a flag that is not given.
        files: files that are read, by what they are.
        folders: folders that are read, by what they are.

    Raises:
        UsageError: an output is an input file or an earlier output, lies in an input folder, or is a link to a file in
            one.
    """
    read = {what: path for what, path in (folders or {}).items() if path is not None}
    taken = {what: path for what, path in files.items() if path is not None}
    for flag, path in outputs.items():
        if path is None or is_stream(path):
            continue
        for what, folder in read.items():
            if Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder)):
                raise UsageError(f"{flag} {path} lies in {what}; choose another folder")
            if _linked(path, folder):
                raise UsageError(f"{flag} {path} would overwrite a file of {what}; choose another name")
        for what, other in taken.items():
            if _same(path, other):
                raise UsageError(f"{flag} {path} would overwrite {what}; choose another name")
        taken[flag] = path


def demand_kept(outputs: Mapping[str, Path], inputs: Mapping[str, Path]) -> None:
    """Refuse output files and folders that would overwrite or replace an input; they may lie in an input folder.

    Raises:
        UsageError: an output is an input, is a folder that contains one, or is a link to a file in an input folder.
    """
    for flag, path in outputs.items():
        if is_stream(path):
            continue
        for what, other in inputs.items():
            inside = other.exists() and Path(os.path.realpath(other)).is_relative_to(os.path.realpath(path))
            if inside or _same(path, other) or _linked(path, other):
                raise UsageError(f"{flag} {path} would overwrite {what} {other}; choose another name")


def _same(one: Path, other: Path) -> bool:
    """Whether two paths name one file, existing or not."""
    if os.path.realpath(one) == os.path.realpath(other):
        return True
    try:
        return one.samefile(other)
    except OSError:  # one does not exist, or is a link to itself
        return False


def _linked(path: Path, folder: Path) -> bool:
    """Whether the file `path` is a file of `folder` too, by a link from one to the other."""
    if not (path.is_file() and folder.is_dir()):
        return False
    status = path.stat()
    for home, _, names in os.walk(folder):
        for name in names:
            try:
                if os.path.samestat(os.stat(os.path.join(home, name)), status):  # noqa: PTH116, PTH118 - many files
                    return True
            except OSError:  # a dangling link
                continue
    return False
