"""A model folder for Triton Inference Server: config.pbtxt, and versions with an .onnx file each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from aerogel.errors import ArtifactError
from aerogel.verify.kind import Check, Kind
from aerogel.verify.kinds.onnx import KIND as ONNX

__all__ = ["KIND"]


class TritonServer(Kind):
    """See the module's docstring."""

    def recognises(self, path: Path) -> bool:
        """See `Kind.recognises`."""
        return (path / "config.pbtxt").is_file()

    def check(self, path: Path, threads: int | None) -> Iterator[Check]:
        """See `Kind.check`. config.pbtxt is the user's to edit, so it is not compared."""
        models = sorted(path.glob("[0-9]*/model.onnx"))
        if not models:
            raise ArtifactError(f"{path} has no model.onnx in a version folder; export the model again")
        for model in models:
            yield from ONNX.check(model, threads)


KIND = TritonServer()
