"""Private copies of models, so that nothing that happens to the files on disk reaches a running server."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from aerogel.errors import ArtifactError
from aerogel.model.artifact import find_model, read_artifact
from aerogel.runtime.mapping import external_files
from aerogel.runtime.model_file import snapshot

__all__ = ["Snapshots"]

# Largest file that is copied with a model, in bytes: tokenizers and configurations, not other models' weights.
_MAX_COMPANION = 64 << 20
# Copies of a model that changes while it is copied.
_TRIES = 3


class Snapshots:
    """Copies in a temporary folder, which is removed at the end.

    Args:
        enabled: without, models are used where they are.
    """

    def __init__(self, enabled: bool) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="aerogel-") if enabled else None

    def take(self, path: Path) -> Path:
        """Copy a model and check the copy against the hashes in its manifest, if it has one.

        Args:
            path: an .onnx file, or a folder with one.

        Returns:
            The .onnx file of the copy, or `path` if copies are not enabled.

        Raises:
            ArtifactError: a file is missing or damaged, or the model keeps changing.
            OSError: the copy cannot be written.
        """
        if self._folder is None:
            return path
        model = find_model(path, None)
        artifact = read_artifact(model)
        for _ in range(_TRIES):
            home = Path(tempfile.mkdtemp(dir=self._folder.name))
            target = home / artifact.folder.resolve().name
            state = snapshot(model)
            copied = _copy(model, artifact.folder, target)
            if state.unchanged():
                read_artifact(copied, verify=copied.with_suffix(".manifest.json").exists())
                return copied
            shutil.rmtree(home)
        raise ArtifactError(
            f"{model} changed while it was copied, {_TRIES} times in a row; load it again later"
        )

    def drop(self, copied: Path) -> None:
        """Remove the copy that `take` returned, once its model is not in use."""
        if self._folder is not None and copied.is_relative_to(self._folder.name):
            home = Path(self._folder.name) / copied.relative_to(self._folder.name).parts[0]
            shutil.rmtree(home, ignore_errors=True)

    def close(self) -> None:
        """Remove the copies."""
        if self._folder is not None:
            self._folder.cleanup()


def _copy(model: Path, folder: Path, target: Path) -> Path:
    """Copy the .onnx file with its external data and the small files of its folder; returns the copied file."""
    copied = target / model.relative_to(folder) if model.is_relative_to(folder) else target / model.name
    copied.parent.mkdir(parents=True)
    manifest = model.with_suffix(".manifest.json")
    files = {
        file: target / file.name
        for file in sorted(folder.iterdir())
        if file.is_file() and file.suffix != ".onnx" and file.stat().st_size <= _MAX_COMPANION
    }
    files |= {file: target / file.relative_to(folder) for file in sorted(folder.glob("*/config.json"))}
    files |= {file: copied.parent / file.name for file in (model, manifest) if file.exists()}
    for name in external_files(model):
        files[model.parent / name] = copied.parent / name
    for source, destination in files.items():
        destination.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, destination)
    return copied
