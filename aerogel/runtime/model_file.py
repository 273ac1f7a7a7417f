"""The files of one model, and whether they stayed the same while a session read them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from aerogel.runtime.mapping import external_files

__all__ = ["ModelFile", "find_companion", "look"]

# Device, inode, size in bytes, times of the last change of content and of inode in ns.
_State = tuple[int, int, int, int, int]


@dataclass(frozen=True)
class ModelFile:
    """A model on disk at one moment.

    Attributes:
        path: what to open. It is the file itself where the caller named a symbolic link to it, so that a link that is
            changed meanwhile has no influence. With external data it is the caller's path: locations of external data
            are relative to the folder of the link, as in the cache of Hugging Face.
        alone: whether the model has no external data and `path` is no symbolic link.
    """

    path: Path
    alone: bool
    _states: dict[Path, _State | None]

    @property
    def size(self) -> int:
        """Bytes of the file itself, without external data."""
        state = self._states[self.path]
        return state[2] if state else 0

    def unchanged(self) -> bool:
        """Whether every file is still the same file and has not been written to."""
        return all(_state(path) == state for path, state in self._states.items())


def look(path: Path) -> ModelFile:
    """Note the identity of a model's file and of its external data.

    Args:
        path: an .onnx file, or a symbolic link to one.
    """
    given = _state(path)
    resolved = path.resolve()
    # Of a file that has no name any more, /proc/self/fd gives one that leads nowhere.
    named = _state(resolved) == given
    external = external_files(path)
    if not external and named:
        return ModelFile(resolved, True, {resolved: given})
    states = {path.parent / name: _state(path.parent / name) for name in external}
    return ModelFile(path, False, {**states, path: given})


def find_companion(path: Path, companion: Path) -> Path:
    """A file that belongs to a model: beside the model itself, or else beside the symbolic link that the caller gave.

    Args:
        path: the model, which may be a symbolic link.
        companion: where the file is expected, in the folder of `path`. One that is named after `path` is named after
            the model in the model's own folder.

    Returns:
        The first that exists, or `companion`.
    """
    if not path.is_symlink():
        return companion
    resolved, name = path.resolve(), companion.name
    if name.startswith(f"{path.stem}."):
        name = resolved.stem + name.removeprefix(path.stem)
    found = resolved.with_name(name)
    return found if found.exists() else companion


def _state(path: Path) -> _State | None:
    """None where no file is found."""
    try:
        found = path.stat()
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
