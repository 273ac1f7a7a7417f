"""Verify what a path leads to: one artifact, or all of a folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from aerogel.errors import ArtifactError
from aerogel.model.document import Document
from aerogel.system.threads import check_threads
from aerogel.verify.kind import KINDS, Check, Kind

__all__ = ["Check", "verify_artifact"]

_MANIFEST = ".manifest.json"
# Subfolder for ONNX files in the hub's layout.
_HUB_FOLDER = "onnx"


def verify_artifact(path: Path, threads: int | None = None) -> Iterator[Check]:
    """Yield each check that an artifact passes: hashes, structure, outputs on the samples in its manifest.

    Args:
        path: a file or folder that `aerogel export` wrote. Of a folder with several exports, all are verified.
        threads: intra-op threads of ONNX Runtime; None for one per core.

    Raises:
        UsageError: `threads` is out of range.
        ArtifactError: the first check that fails, or `path` is not an artifact; names the file and what differs.
    """
    if threads is not None:
        check_threads(threads)
    if not path.exists():
        raise ArtifactError(f"{path} does not exist; give a file or folder that `aerogel export` wrote")
    for kind, artifact in _artifacts(path):
        yield from kind.check(artifact, threads)


def _artifacts(path: Path) -> list[tuple[Kind, Path]]:
    """Kind and path of each artifact that `path` leads to."""
    if kind := _kind_of(path):
        return [(kind, path)]
    if path.is_dir():
        files = [
            _described(manifest)
            for folder in (path, path / _HUB_FOLDER)
            for manifest in sorted(folder.glob(f"*{_MANIFEST}"))
        ]
        if files:
            return files
    raise ArtifactError(f"{path} is not an artifact; give a file or folder that `aerogel export` wrote")


def _described(manifest: Path) -> tuple[Kind, Path]:
    """Kind and path of the artifact that a manifest describes.

    Raises:
        ArtifactError: the manifest is malformed, or the artifact does not exist.
    """
    name = Document.read(manifest).get("file", str)
    if name is None or Path(name).name != name:
        raise ArtifactError(f"{manifest}: file is not the name of a file; export the model again")
    file = manifest.parent / name
    kind = _kind_of(file)
    if kind is None:
        raise ArtifactError(f"{manifest} describes {name}, which is missing; export the model again")
    return kind, file


def _kind_of(path: Path) -> Kind | None:
    return next((kind for name in KINDS.names() if (kind := KINDS.get(name)).recognises(path)), None)
