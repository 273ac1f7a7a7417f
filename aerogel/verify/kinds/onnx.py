"""An .onnx file with its manifest and companions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from aerogel import runtime
from aerogel.errors import ArtifactError
from aerogel.kernels.cpu.library import find_library
from aerogel.model.artifact import check_hashes, check_manifest
from aerogel.model.document import Document
from aerogel.runtime.artifact import manifest_path
from aerogel.system.json_fields import Either
from aerogel.verify.kind import Check, Kind, manifest_of
from aerogel.verify.samples import Run, compare_samples

__all__ = ["KIND"]

_PORTS = [{"name": str, "dtype": str, "shape": [Either(int, str)]}]
_TYPES = {"float": "float32", "double": "float64"}


class Onnx(Kind):
    """See the module's docstring."""

    def recognises(self, path: Path) -> bool:
        """See `Kind.recognises`."""
        return path.suffix == ".onnx" and path.is_file()

    def check(self, path: Path, threads: int | None) -> Iterator[Check]:
        """See `Kind.check`."""
        manifest = manifest_of(path, manifest_path(path))
        check_manifest(manifest, path)
        files = check_hashes(manifest, path)
        yield Check(str(path), "hashes", f"{len(files)} files have the SHA-256 of the manifest")
        run, ports = _opened(path, threads, library=False)
        _check_ports(manifest, path, ports)
        count = f"{len(ports['inputs'])} inputs and {len(ports['outputs'])} outputs"
        yield Check(str(path), "structure", f"{count} are those of the manifest")
        yield Check(str(path), "outputs", compare_samples(manifest, path, run, "on stock ONNX Runtime"))
        if find_library() is None:
            yield Check(str(path), "outputs", "not compared with the native library, which is not built here")
            return
        run, _ = _opened(path, threads, library=True)
        yield Check(str(path), "outputs", compare_samples(manifest, path, run, "with the native library"))


def _opened(
    path: Path, threads: int | None, *, library: bool
) -> tuple[Run, dict[str, list[tuple[str, str, int]]]]:
    """A function that runs the model, and (name, dtype, rank) of its inputs and outputs."""
    session = runtime.session(path, threads, library=library)
    names = [output.name for output in session.get_outputs()]
    types = {value.name: value.type for value in session.get_inputs()}

    def run(inputs: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        narrow = {
            name: array.astype(np.int32) if types.get(name) == "tensor(int32)" else array
            for name, array in inputs.items()
        }
        try:
            return dict(zip(names, session.run(names, narrow), strict=True))
        except Exception as error:  # the exception types of onnxruntime are not public
            first = str(error).partition("\n")[0]
            raise ArtifactError(
                f"{path} cannot run on its manifest's samples ({first}); export the model again"
            ) from error

    ports = {
        kind: [(value.name, _dtype(value.type), len(value.shape)) for value in values]
        for kind, values in (("inputs", session.get_inputs()), ("outputs", session.get_outputs()))
    }
    return run, ports


def _dtype(text: str) -> str:
    """NumPy's name of "tensor(float)"."""
    inner = text.removeprefix("tensor(").removesuffix(")")
    return _TYPES.get(inner, inner)


def _check_ports(manifest: Document, path: Path, ports: Mapping[str, list[tuple[str, str, int]]]) -> None:
    for kind, found in ports.items():
        stated = [
            (port["name"], port["dtype"], len(port["shape"])) for port in manifest.get(kind, _PORTS) or []
        ]
        if stated != found:
            raise ArtifactError(
                f"{path} has the {kind} {', '.join(map(_port, found))}, and its manifest "
                f"{', '.join(map(_port, stated)) or 'none'}; export the model again"
            )


def _port(port: tuple[str, str, int]) -> str:
    return f"{port[0]} ({port[1]}, {port[2]} dimensions)"


KIND = Onnx()
