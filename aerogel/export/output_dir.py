"""The output directory of an export: check it before the work, write it after.

``--out DIR/model.onnx`` writes DIR/model.onnx, DIR/model.manifest.json, and companions: copies of the checkpoint's
config.json and tokenizer files. Only tokenizer.json differs from the checkpoint's, in truncation and padding
(`aerogel.export.serving`). Several exports of one checkpoint can share a directory; equal files are not written again.
A file of the same name with other contents is overwritten only with ``--force``.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from aerogel.errors import UsageError
from aerogel.export.serving import TOKENIZER_FILE, same_tokenizer
from aerogel.runtime.artifact import data_files, manifest_path
from aerogel.system.atomic_io import atomic_file, check_output, sha256
from aerogel.system.json_fields import MalformedJsonError, read
from aerogel.system.overlap import check_inputs_preserved

__all__ = ["check_out", "companions", "model_folder", "place"]

# All files of the tokenizers in transformers.
_TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.txt",
    "vocab.json", "merges.txt", "sentencepiece.bpe.model", "spiece.model",
)  # fmt: skip


def model_folder(path: Path) -> Path:
    """The directory with config.json and tokenizer of a model: of an .onnx file, its own or the one above onnx/."""
    if path.is_dir():
        return path
    return path.parent.parent if path.parent.name == "onnx" else path.parent


def companions(checkpoint: Path) -> list[Path]:
    """The files of a checkpoint directory that are copied next to the model."""
    return [path for name in ("config.json", *_TOKENIZER_FILES) if (path := checkpoint / name).is_file()]


def check_out(
    out: Path, suffix: str, checkpoint: Path, *, force: bool, inputs: Mapping[str, Path] | None = None
) -> None:
    """Check, before any work, that the output can be written and would not overwrite a foreign file.

    Args:
        out: the model's file.
        suffix: the suffix that its name must have.
        checkpoint: what is exported: a directory, or an .onnx file.
        force: allow overwriting files that no export of this checkpoint wrote.
        inputs: other files and folders that the export reads, by flag; never overwritten.

    Raises:
        UsageError: `out` has another suffix or is in the checkpoint directory; or the model, its manifest or a
            companion would replace an input, or, unless `force`, a file that no export of this checkpoint wrote.
        OutputError: a file cannot be written.
    """
    if out.suffix != suffix or out.name == suffix:
        raise UsageError(f"--out {out}: must name a file that ends in {suffix}")
    folder, home = model_folder(checkpoint), out.parent.resolve()
    # Saving a checkpoint again replaces its whole folder, with any export in it. A subfolder by an .onnx file is safe.
    if home == folder.resolve() or (checkpoint.is_dir() and home.is_relative_to(folder.resolve())):
        raise UsageError(f"--out {out}: is inside the checkpoint directory; choose another folder")
    copies = {file: out.parent / file.name for file in companions(folder)}
    for path in (out, manifest_path(out), *copies.values()):
        check_output(path)
        check_inputs_preserved({"--out: its file": path}, {"the checkpoint": checkpoint, **(inputs or {})})
    if force:
        return
    existing = next((file for file in (out, manifest_path(out)) if file.exists()), None)
    if existing and not (existing.is_file() and _is_export(out)):
        raise UsageError(
            f"--out: {existing} exists and is not from an earlier export; choose another name, or add --force"
        )
    for file, copy in copies.items():
        if (
            copy.exists()
            and not (copy.is_file() and sha256(copy) == sha256(file))
            and not _is_served_copy(file, copy)
        ):
            raise UsageError(
                f"{copy} exists and differs from the checkpoint's; choose another folder for --out, or add --force"
            )


def place(
    artifact: Path,
    manifest: dict[str, Any],
    checkpoint: Path,
    out: Path,
    served: Mapping[str, bytes] = MappingProxyType({}),
) -> None:
    """Write the companions, move the finished artifact and its weights to `out`, then write its manifest.

    The manifest comes last: if its ``sha256`` is that of the artifact, the export is complete.

    Args:
        artifact: the file to move.
        manifest: a JSON object.
        checkpoint: directory that companions are copied from.
        out: destination of the artifact.
        served: contents of companions that are not plain copies, by file name.
    """
    for file in companions(checkpoint):
        copy = out.parent / file.name
        if file.name in served:
            if not copy.is_file() or copy.read_bytes() != served[file.name]:
                with atomic_file(copy) as temporary:
                    temporary.write_bytes(served[file.name])
        elif not copy.is_file() or sha256(copy) != sha256(file):
            with atomic_file(copy) as temporary:
                shutil.copyfile(file, temporary)
    data = data_files(artifact)
    for file in data:
        with atomic_file(out.parent / file.name) as temporary:
            shutil.move(file, temporary)
    with atomic_file(out) as temporary:
        shutil.move(artifact, temporary)  # another file system if `out` is a link to one
    with atomic_file(manifest_path(out)) as temporary:
        temporary.write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    for file in data_files(out):
        if file.name not in {new.name for new in data}:
            file.unlink()  # of an earlier export of this name


def _is_served_copy(file: Path, copy: Path) -> bool:
    """Whether `copy` differs from the checkpoint's `file` only in what an export changes."""
    return file.name == TOKENIZER_FILE and same_tokenizer(file, copy)


def _is_export(out: Path) -> bool:
    """Whether the manifest next to `out` is that of an export of this name."""
    if not manifest_path(out).is_file():
        return False
    try:
        document = read(manifest_path(out), {"aerogel": str, "file": str})
    except (OSError, MalformedJsonError):
        return False
    return bool(document["aerogel"] and document["file"] == out.name)
