"""A .zip archive: it is unpacked into a temporary folder, and the model in it is verified there."""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from aerogel.errors import ArtifactError
from aerogel.verify.kind import Check, Kind
from aerogel.verify.kinds.onnx import KIND as ONNX

__all__ = ["KIND"]

_MOST_FILES = 64
_MOST_BYTES = 4 << 30


class Bundle(Kind):
    """See the module's docstring."""

    def recognises(self, path: Path) -> bool:
        """See `Kind.recognises`."""
        return path.suffix == ".zip" and path.is_file()

    def check(self, path: Path, threads: int | None) -> Iterator[Check]:
        """See `Kind.check`."""
        with tempfile.TemporaryDirectory() as temporary:
            folder = _unpacked(path, Path(temporary))
            model = folder / "model.onnx"
            if not model.is_file():
                raise ArtifactError(f"{path} has no {folder.name}/model.onnx; export the model again")
            try:
                for check in ONNX.check(model, threads):
                    yield replace(check, file=f"{path}: {Path(check.file).relative_to(temporary)}")
            except ArtifactError as error:
                raise ArtifactError(str(error).replace(f"{temporary}/", f"{path}: ")) from error


def _unpacked(path: Path, folder: Path) -> Path:
    """Unpack an archive; returns its only folder.

    Raises:
        ArtifactError: it is damaged, too large, or has other entries than files in one folder.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            if len(entries) > _MOST_FILES or sum(entry.file_size for entry in entries) > _MOST_BYTES:
                raise ArtifactError(f"{path} has too many or too large files; export the model again")
            tops = {_top(path, entry) for entry in entries}
            if len(tops) != 1:
                raise ArtifactError(
                    f"{path} must have one folder, and has {len(tops)}; export the model again"
                )
            for entry in entries:
                (folder / entry.filename).parent.mkdir(exist_ok=True)
                with archive.open(entry) as stream, (folder / entry.filename).open("xb") as file:
                    shutil.copyfileobj(stream, file)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, OSError) as error:
        if isinstance(error, ArtifactError):
            raise
        raise ArtifactError(f"cannot read {path} ({error}); export the model again") from error
    return folder / tops.pop()


def _top(path: Path, entry: zipfile.ZipInfo) -> str:
    """Folder of an entry FOLDER/FILE; every other name is refused."""
    parts = entry.filename.split("/")
    if len(parts) != 2 or any(part in ("", ".", "..") or "\\" in part or ":" in part for part in parts):
        raise ArtifactError(f"{path} has an entry {entry.filename[:80]!a}; export the model again")
    return parts[0]


KIND = Bundle()
