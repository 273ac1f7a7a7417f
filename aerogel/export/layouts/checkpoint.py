"""Layout "checkpoint": a file of parameters next to config.json, the tokenizer and the modules.

``--out DIR/NAME.safetensors`` names the file. Where the target writes a folder, it is ``DIR/model.safetensors``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from aerogel.errors import UsageError
from aerogel.export import output_dir
from aerogel.export.config import ExportConfig
from aerogel.export.layout import Layout, Placement

__all__ = ["LAYOUT"]

_DENSE_NAME = "model.safetensors"


class Checkpoint(Layout):
    """See the module's docstring."""

    serving_tokenizer = False

    def model_path(self, config: ExportConfig) -> Path:
        """See `Layout.model_path`."""
        return config.out if config.out.suffix == ".safetensors" else config.out / _DENSE_NAME

    def companions(self, source: Path, folder: Path) -> dict[str, Path]:
        """See `Layout.companions`."""
        return output_dir.all_companions(source, folder)

    def check(self, config: ExportConfig, suffix: str, source: Path, inputs: Mapping[str, Path]) -> None:
        """See `Layout.check`."""
        out, model = config.out, self.model_path(config)
        if suffix and (out.suffix != suffix or out.name == suffix):
            raise UsageError(f"--out {out}: must name a file that ends in {suffix}")
        if suffix and out.name == _DENSE_NAME:
            raise UsageError(
                f"--out {out}: transformers would load a file of this name as a dense model; choose another name"
            )
        if not suffix and (out.suffix == ".safetensors" or (out.exists() and not out.is_dir())):
            raise UsageError(f"--out {out}: this target writes a folder; name one")
        folder, home = output_dir.model_folder(source).resolve(), model.parent.resolve()
        if home.is_relative_to(folder):
            raise UsageError(f"--out {out}: is inside the checkpoint directory; choose another folder")
        copies = {model.parent / name: file for name, file in self.companions(source, folder).items()}
        if not suffix:
            if out.is_dir() and any(out.iterdir()) and not config.force and not output_dir.is_export(model):
                raise UsageError(
                    f"--out: {out} is not empty and not from an earlier export; choose another name, or add --force"
                )
            # Its config.json is not a plain copy.
            copies.pop(model.parent / "config.json", None)
        output_dir.check_files(
            model,
            copies,
            force=config.force,
            inputs={"the checkpoint": source, **inputs},
            others=[] if suffix else [model.parent / "config.json"],
        )

    def place(self, placement: Placement, config: ExportConfig) -> None:
        """See `Layout.place`."""
        model = self.model_path(config)
        output_dir.place(placement, model.parent, model)


LAYOUT = Checkpoint()
