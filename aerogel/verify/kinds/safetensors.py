"""Parameters in a .safetensors file: a sparse checkpoint, or the layout of compressed-tensors."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from aerogel.checkpoint.bitmask import decode_bitmask_tensors
from aerogel.checkpoint.sparse_file import is_sparse_file, read_sparse_file
from aerogel.errors import ArtifactError, CheckpointError
from aerogel.model.artifact import check_hashes, check_manifest
from aerogel.runtime.artifact import manifest_path
from aerogel.system.json_fields import Number
from aerogel.verify.kind import Check, Kind, manifest_of

__all__ = ["KIND"]


class Safetensors(Kind):
    """See the module's docstring."""

    def recognises(self, path: Path) -> bool:
        """See `Kind.recognises`."""
        return path.suffix == ".safetensors" and path.is_file()

    def check(self, path: Path, threads: int | None) -> Iterator[Check]:
        """See `Kind.check`. There is nothing to run."""
        del threads
        manifest = manifest_of(path, manifest_path(path))
        check_manifest(manifest, path)
        files = check_hashes(manifest, path)
        yield Check(str(path), "hashes", f"{len(files)} files have the SHA-256 of the manifest")
        try:
            tensors = read_sparse_file(path) if is_sparse_file(path) else decode_bitmask_tensors(path)
        except CheckpointError as error:
            raise ArtifactError(str(error)) from error
        stated = manifest.get("tensors", Number(int, 0))
        if len(tensors) != stated:
            raise ArtifactError(
                f"{path} has {len(tensors)} parameters, and its manifest {stated}; export the model again"
            )
        yield Check(str(path), "structure", f"{len(tensors)} parameters follow the rules of their formats")


KIND = Safetensors()
