"""Files of a task in the directory that a user gives."""

from __future__ import annotations

from pathlib import Path

from aerogel.errors import DataError, UsageError

__all__ = ["check_name", "find_file"]


def find_file(folder: Path, name: str) -> Path:
    """File `name` of `folder`, or `name` with .gz behind it.

    Raises:
        DataError: there is neither.
        UsageError: `folder` is no directory.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder} is not a directory; give the one that holds {name}")
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    raise DataError(f"{folder} has neither {name} nor {name}.gz; give the directory of the task's files")


def check_name(option: str, name: str | None) -> None:
    """Demand that a task's option names a file in the task's directory.

    Raises:
        UsageError: it names none, or one elsewhere.
    """
    if name is not None and (name in ("", ".", "..") or Path(name).name != name):
        raise UsageError(f"--task-option {option}={name}: must be the name of a file in --data")
