"""Layout "triton-server": ``--out REPOSITORY/MODEL`` is one model of a Triton model repository.

    MODEL/config.pbtxt
    MODEL/1/model.onnx, model.manifest.json, config.json, tokenizer.json, ..., libaerogel.so

The server opens the native library by its path there, which ``--model-repository`` says.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from aerogel.errors import UsageError
from aerogel.export import output_dir
from aerogel.export.config import ExportConfig
from aerogel.export.layout import Layout, Placement
from aerogel.export.triton_config import is_unedited, triton_config
from aerogel.kernels.cpu.library import find_library
from aerogel.system.atomic_io import atomic_directory, atomic_file, check_output
from aerogel.system.overlap import check_inputs_preserved

__all__ = ["LAYOUT"]

_VERSION = "1"
_CONFIG = "config.pbtxt"
_NAME = re.compile(r"[A-Za-z0-9_.-]+")


class TritonServer(Layout):
    """See the module's docstring."""

    def model_path(self, config: ExportConfig) -> Path:
        """See `Layout.model_path`."""
        return config.out / _VERSION / "model.onnx"

    def companions(self, source: Path, folder: Path) -> dict[str, Path]:
        """See `Layout.companions`."""
        del source
        files = {file.name: file for file in output_dir.companions(folder)}
        library = find_library()
        return files | ({library.name: library} if library else {})

    def check(self, config: ExportConfig, suffix: str, source: Path, inputs: Mapping[str, Path]) -> None:
        """See `Layout.check`."""
        del suffix
        out, version = config.out, config.out / _VERSION
        if not _NAME.fullmatch(out.resolve().name):
            raise UsageError(
                f"--out {out}: its last part names the model: letters, digits, and the signs _ . -"
            )
        if out.suffix == ".onnx" or (out.exists() and not out.is_dir()):
            raise UsageError(f"--out {out}: --to triton-server writes a folder; name one")
        if out.resolve().is_relative_to(output_dir.model_folder(source).resolve()):
            raise UsageError(f"--out {out}: is inside the checkpoint directory; choose another folder")
        check_output(version, folder=True)
        for path in (version, out / _CONFIG):
            check_inputs_preserved({"--out: its file": path}, {"the checkpoint": source, **inputs})
        if config.force:
            return
        if version.exists() and (foreign := _foreign(version)):
            raise UsageError(
                f"--out: {foreign} exists and is not from an earlier export; choose another name, or add --force"
            )
        if (out / _CONFIG).exists() and not is_unedited(_text(out / _CONFIG)):
            raise UsageError(f"--out: {out / _CONFIG} was edited; choose another name, or add --force")

    def place(self, placement: Placement, config: ExportConfig) -> None:
        """See `Layout.place`."""
        out = config.out
        library, path = find_library(), None
        if library is not None and not config.inline:
            path = f"{config.model_repository.rstrip('/')}/{out.resolve().name}/{_VERSION}/{library.name}"
        text = triton_config(out.resolve().name, placement.manifest, path)
        if not out.exists():
            with atomic_directory(out) as folder:
                output_dir.place(placement, folder / _VERSION, folder / _VERSION / "model.onnx")
                (folder / _CONFIG).write_text(text, encoding="utf-8")
            return
        with atomic_directory(out / _VERSION) as folder:
            output_dir.place(placement, folder, folder / "model.onnx")
        with atomic_file(out / _CONFIG) as temporary:
            temporary.write_text(text, encoding="utf-8")


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""  # not what an export wrote


def _foreign(version: Path) -> Path | None:
    """A file of a version folder that no export wrote; None if an export wrote all."""
    model = version / "model.onnx"
    if not version.is_dir():
        return version
    if not output_dir.is_export(model):
        return next(iter(version.iterdir()), None)
    return next(
        (path for path in version.iterdir() if path.name not in output_dir.written_names(model)), None
    )


LAYOUT = TritonServer()
