"""Find the files of a task in the user's directory."""

from __future__ import annotations

from pathlib import Path

from aerogel.errors import DataError, UsageError

__all__ = ["check_name", "find_file"]


def find_file(folder: Path, name: str) -> Path:
    """Return the path of `name` or `name`.gz in `folder`.

    Raises:
        DataError: neither exists.
        UsageError: `folder` is not a directory.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder} is not a directory; give the directory that contains {name}")
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    raise DataError(f"{folder} contains neither {name} nor {name}.gz; give the directory of the task's files")


def check_name(option: str, name: str | None) -> None:
    """Check that the value of a task option is a file name without a directory.

    Raises:
        UsageError: it is empty or has a directory part.
    """
    if name is not None and (name in ("", ".", "..") or Path(name).name != name):
        raise UsageError(
            f"--task-option {option}={name}: must be the name of a file in --data, without a directory"
        )
