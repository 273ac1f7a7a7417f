"""Layout "bundle": ``--out NAME.zip`` has one folder NAME with the model, its companions, the native library, examples.

Equal files give equal bytes on every machine: entries are in order, are not compressed, and have no time of their own.
"""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aerogel.errors import UsageError
from aerogel.export import bundle_files, output_dir
from aerogel.export.config import ExportConfig
from aerogel.export.layout import Layout, Placement
from aerogel.kernels.cpu.library import find_library
from aerogel.runtime.artifact import data_files, manifest_path
from aerogel.system.atomic_io import atomic_file, check_output
from aerogel.system.json_fields import MalformedJsonError, check, parse
from aerogel.system.overlap import check_inputs_preserved

__all__ = ["LAYOUT"]

_MODEL = "model.onnx"
_EXTRAS = ("README.txt", "example.c", "example.py")
# The earliest time that the format can state.
_TIME = (1980, 1, 1, 0, 0, 0)
_MODE = 0o644 << 16
_LARGEST = 64 << 20  # bytes of a manifest


class Bundle(Layout):
    """See the module's docstring."""

    def model_path(self, config: ExportConfig) -> Path:
        """See `Layout.model_path`. The file exists only in the archive."""
        return config.out.with_suffix("") / _MODEL

    def companions(self, source: Path, folder: Path) -> dict[str, Path]:
        """See `Layout.companions`."""
        del source
        files = {file.name: file for file in output_dir.companions(folder)}
        library = find_library()
        files |= {library.name: library} if library else {}
        (home,) = map(Path, bundle_files.__path__)
        return files | {name: home / name for name in _EXTRAS}

    def check(self, config: ExportConfig, suffix: str, source: Path, inputs: Mapping[str, Path]) -> None:
        """See `Layout.check`."""
        out = config.out
        if out.suffix != suffix or out.name == suffix:
            raise UsageError(f"--out {out}: must name a file that ends in {suffix}")
        if out.resolve().is_relative_to(output_dir.model_folder(source).resolve()):
            raise UsageError(f"--out {out}: is inside the checkpoint directory; choose another folder")
        check_output(out)
        check_inputs_preserved({"--out: its file": out}, {"the checkpoint": source, **inputs})
        if out.exists() and not config.force and not _is_bundle(out):
            raise UsageError(
                f"--out: {out} exists and is not from an earlier export; choose another name, or add --force"
            )

    def place(self, placement: Placement, config: ExportConfig) -> None:
        """See `Layout.place`."""
        folder = config.out.stem
        manifest = (json.dumps(placement.manifest, indent=2) + "\n").encode()
        with atomic_file(config.out) as temporary, zipfile.ZipFile(temporary, "w") as archive:
            for name in sorted(placement.companions):
                archive.writestr(_entry(f"{folder}/{name}"), placement.content(name))
            for file in (*data_files(placement.artifact), placement.artifact):
                entry = _entry(f"{folder}/{file.name}")
                entry.file_size = file.stat().st_size
                with archive.open(entry, "w") as target, file.open("rb") as stream:
                    shutil.copyfileobj(stream, target, 1 << 20)
            archive.writestr(_entry(f"{folder}/{manifest_path(Path(_MODEL)).name}"), manifest)


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, _TIME)
    entry.external_attr = _MODE
    entry.create_system = 3  # Unix, on every machine
    return entry


def _is_bundle(path: Path) -> bool:
    """Whether a file is an archive that an export wrote."""
    try:
        with zipfile.ZipFile(path) as archive:
            entry = next(entry for entry in archive.infolist() if entry.filename.endswith(".manifest.json"))
            if entry.file_size > _LARGEST:
                return False
            document: dict[str, Any] = check(parse(archive.read(entry)), {"aerogel": str, "file": str})
    except (
        OSError,
        zipfile.BadZipFile,
        StopIteration,
        MalformedJsonError,
        NotImplementedError,
        RuntimeError,
    ):
        return False
    return bool(document["aerogel"]) and document["file"] == _MODEL


LAYOUT = Bundle()
