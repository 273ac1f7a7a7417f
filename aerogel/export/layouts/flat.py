"""Layout "flat": the model, its manifest, config.json and the tokenizer in one folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from aerogel.export import output_dir
from aerogel.export.config import ExportConfig
from aerogel.export.layout import Layout, Placement

__all__ = ["LAYOUT"]


class Flat(Layout):
    """See the module's docstring."""

    def model_path(self, config: ExportConfig) -> Path:
        """See `Layout.model_path`."""
        return config.out

    def companions(self, source: Path, folder: Path) -> dict[str, Path]:
        """See `Layout.companions`."""
        del source  # config.json and the tokenizer are enough
        return {file.name: file for file in output_dir.companions(folder)}

    def check(self, config: ExportConfig, suffix: str, source: Path, inputs: Mapping[str, Path]) -> None:
        """See `Layout.check`."""
        output_dir.check_out(config.out, suffix, source, force=config.force, inputs=inputs)

    def place(self, placement: Placement, config: ExportConfig) -> None:
        """See `Layout.place`."""
        output_dir.place(placement, config.out.parent, config.out)


LAYOUT = Flat()
