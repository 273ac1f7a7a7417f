"""Detect whether the files of a model change while a session opens them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from aerogel.runtime.mapping import external_files

__all__ = ["ModelFile", "find_companion", "snapshot"]

# Device, inode, size in bytes, times of the last change of the content and the inode in ns.
_State = tuple[int, int, int, int, int]


@dataclass(frozen=True)
class ModelFile:
    """Snapshot of a model's files.

    Attributes:
        path: path to open. Symbolic links are resolved, so that a link that changes meanwhile has no effect, except for
            a model with external data, whose locations are relative to the folder of the link, as in the Hugging Face
            cache.
        self_contained: whether the model has no external data and `path` is not a symbolic link.
    """

    path: Path
    self_contained: bool
    _states: dict[Path, _State | None]

    @property
    def size(self) -> int:
        """Size of the file in bytes, without external data."""
        state = self._states[self.path]
        return state[2] if state else 0

    def unchanged(self) -> bool:
        """Whether no file has been replaced or written since."""
        return all(_state(path) == state for path, state in self._states.items())


def snapshot(path: Path) -> ModelFile:
    """Take a snapshot of a model's file and its external data.

    Args:
        path: an .onnx file, or a symbolic link to one.
    """
    state = _state(path)
    resolved = path.resolve()
    # For a deleted file, a path in /proc/self/fd resolves to a name that does not exist.
    exists = _state(resolved) == state
    external = external_files(path)
    if not external and exists:
        return ModelFile(resolved, True, {resolved: state})
    states = {path.parent / name: _state(path.parent / name) for name in external}
    return ModelFile(path, False, {**states, path: state})


def find_companion(path: Path, companion: Path) -> Path:
    """Find a file that belongs to a model, such as its manifest: next to the model, else next to the symbolic link.

    Args:
        path: the model, which may be a symbolic link.
        companion: expected path, in the folder of `path`. If its name begins with the name of `path`, that part is
            replaced by the name of the resolved model.

    Returns:
        The first path that exists, or `companion`.
    """
    if not path.is_symlink():
        return companion
    resolved, name = path.resolve(), companion.name
    if name.startswith(f"{path.stem}."):
        name = resolved.stem + name.removeprefix(path.stem)
    found = resolved.with_name(name)
    return found if found.exists() else companion


def _state(path: Path) -> _State | None:
    """The state of a file; None if it does not exist."""
    try:
        found = path.stat()
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
