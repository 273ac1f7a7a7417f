"""Layout "hub": ``--out DIR`` is a repository of the Hugging Face hub, with the model in ``DIR/onnx/``.

    DIR/README.md                          the model card, with a block of Aerogel's
    DIR/config.json, tokenizer.json, ...   unchanged copies
    DIR/modules.json, 1_Pooling/, ...      of a sentence-transformers model, without its dense weights
    DIR/onnx/model_sparse.onnx             and model_sparse.manifest.json

Other servers look for ``onnx/model.onnx`` or a name with "quantized". They must not find these files: without the
library they would unpack them to dense weights. DIR may be the model's own folder; then only the card and ``onnx/``
are written.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from aerogel.checkpoint import RECORD_FILE
from aerogel.errors import UsageError
from aerogel.export import output_dir
from aerogel.export.config import ExportConfig
from aerogel.export.layout import Layout, Placement
from aerogel.export.model_card import CARD_FILE, check_card, merged_card, write_card
from aerogel.export.plan import FP32
from aerogel.hf.hub import HUB_ID
from aerogel.hf.push import check_push, push
from aerogel.runtime.artifact import data_files, manifest_path

__all__ = ["LAYOUT"]


class Hub(Layout):
    """See the module's docstring."""

    # What optimum and sentence-transformers read; pooling is theirs.
    token_output = "last_hidden_state"
    # Other programs share the tokenizer's files.
    serving_tokenizer = False

    def model_path(self, config: ExportConfig) -> Path:
        """See `Layout.model_path`."""
        value_type = "" if config.weights == FP32 else f"_{config.weights}"
        return config.out / "onnx" / f"model_sparse{value_type}.onnx"

    def companions(self, source: Path, folder: Path) -> dict[str, Path]:
        """See `Layout.companions`."""
        return output_dir.all_companions(source, folder)

    def check(self, config: ExportConfig, suffix: str, source: Path, inputs: Mapping[str, Path]) -> None:
        """See `Layout.check`."""
        out = config.out
        if out.suffix == suffix or (out.exists() and not out.is_dir()):
            raise UsageError(f"--out {out}: --layout hub writes a folder; name one")
        folder, home = output_dir.model_folder(source), out.resolve()
        own = home == folder.resolve()
        if (own and (folder / RECORD_FILE).is_file()) or (
            source.is_dir() and not own and home.is_relative_to(folder.resolve())
        ):
            raise UsageError(f"--out {out}: is inside the checkpoint directory; choose another folder")
        copies = {out / name: file for name, file in self.companions(source, folder).items()}
        if not (own and source.is_dir()):
            inputs = {"the checkpoint": source, **inputs}
        check_card(out / CARD_FILE)
        output_dir.check_files(
            self.model_path(config), copies, force=config.force, inputs=inputs, others=[out / CARD_FILE]
        )

    def place(self, placement: Placement, config: ExportConfig) -> None:
        """See `Layout.place`."""
        model = self.model_path(config)
        output_dir.place(placement, config.out, model)
        given = str(config.source)
        base = given if not Path(given).exists() and HUB_ID.fullmatch(given) else None
        write_card(config.out, base)
        if config.push:
            push(
                config.out,
                config.push,
                [
                    path.relative_to(config.out).as_posix()
                    for path in (*data_files(model), model, manifest_path(model))
                ],
                placement.companions,
                CARD_FILE,
                lambda old: merged_card(config.out, old, base),
                public=config.public,
            )

    def check_push(self, repo_id: str) -> None:
        """See `Layout.check_push`."""
        check_push(repo_id)


LAYOUT = Hub()
