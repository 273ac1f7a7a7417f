"""What stands beside an exported model, and putting it all in place.

``--out DIR/model.onnx`` gives DIR/model.onnx, DIR/model.manifest.json, and copies of the checkpoint's config.json and
tokenizer files; only tokenizer.json is changed, to cut and pad as the model needs it (`aerogel.export.serving`).
Exports of one checkpoint share a folder: files that are already there and equal are left alone. A file of the same name
with other contents belongs to something else and is never overwritten unasked.
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
from aerogel.runtime.artifact import manifest_path
from aerogel.system.atomic_io import atomic_file, check_output, sha256
from aerogel.system.json_fields import MalformedJsonError, read
from aerogel.system.overlap import check_inputs_preserved

__all__ = ["check_out", "companions", "manifest_path", "place"]

# Everything that a tokenizer of transformers may consist of.
_TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.txt",
    "vocab.json", "merges.txt", "sentencepiece.bpe.model", "spiece.model",
)  # fmt: skip


def companions(checkpoint: Path) -> list[Path]:
    """The files of a checkpoint directory that a copy beside the model needs."""
    return [path for name in ("config.json", *_TOKENIZER_FILES) if (path := checkpoint / name).is_file()]


def check_out(
    out: Path, suffix: str, checkpoint: Path, *, force: bool, inputs: Mapping[str, Path] | None = None
) -> None:
    """Refuse, before any work, an output that cannot be written or that would overwrite a file of the user.

    Args:
        out: the model's file.
        suffix: the ending that its name must have.
        checkpoint: what is exported.
        force: allow to overwrite what no export wrote.
        inputs: files and folders that are read besides, by the flag; never overwritten.

    Raises:
        UsageError: the name has another ending, it lies below the checkpoint, the model, its manifest or a companion
            would replace an input, or (unless `force`) a file that did not come from an export of this checkpoint.
        OutputError: a file cannot be written.
    """
    if out.suffix != suffix or out.name == suffix:
        raise UsageError(f"--out {out} must name a file that ends in {suffix}")
    # Whoever writes the checkpoint anew replaces all of its folder, exports included.
    if out.parent.resolve().is_relative_to(checkpoint.resolve()):
        raise UsageError(f"--out {out} lies in the checkpoint itself; choose another folder")
    copies = {file: out.parent / file.name for file in companions(checkpoint)}
    for there in (out, manifest_path(out), *copies.values()):
        check_output(there)
        check_inputs_preserved({"--out: its file": there}, {"the checkpoint": checkpoint, **(inputs or {})})
    if force:
        return
    found = next((file for file in (out, manifest_path(out)) if file.exists()), None)
    if found and not (found.is_file() and _is_ours(out)):
        raise UsageError(
            f"--out: {found} exists and is not of an earlier export; choose another name, or add --force"
        )
    for file, there in copies.items():
        if (
            there.exists()
            and not (there.is_file() and sha256(there) == sha256(file))
            and not _same(file, there)
        ):
            raise UsageError(
                f"{there} exists and differs from the checkpoint's; choose another folder for --out, or add --force"
            )


def place(
    artifact: Path,
    manifest: dict[str, Any],
    checkpoint: Path,
    out: Path,
    served: Mapping[str, bytes] = MappingProxyType({}),
) -> None:
    """Move a finished artifact to `out`, then write its manifest.

    One file follows the other: companions, artifact, manifest. Whoever finds a manifest whose ``sha256`` is the
    artifact's has them all.

    Args:
        artifact: the file to move.
        manifest: JSON values.
        checkpoint: directory that companions are copied from.
        out: where the artifact belongs.
        served: contents of companions that are not copies, by name.
    """
    for file in companions(checkpoint):
        there = out.parent / file.name
        if file.name in served:
            if not there.is_file() or there.read_bytes() != served[file.name]:
                with atomic_file(there) as temporary:
                    temporary.write_bytes(served[file.name])
        elif not there.is_file() or sha256(there) != sha256(file):
            with atomic_file(there) as temporary:
                shutil.copyfile(file, temporary)
    with atomic_file(out) as temporary:
        shutil.move(artifact, temporary)  # which may be on another file system, where `out` is a link
    with atomic_file(manifest_path(out)) as temporary:
        temporary.write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


def _same(file: Path, there: Path) -> bool:
    """Whether a companion differs from the checkpoint's only as exports make it differ."""
    return file.name == TOKENIZER_FILE and same_tokenizer(file, there)


def _is_ours(out: Path) -> bool:
    """Whether the manifest beside `out` speaks of an export under that name."""
    if not manifest_path(out).is_file():
        return False
    try:
        document = read(manifest_path(out), {"aerogel": str, "file": str})
    except (OSError, MalformedJsonError):
        return False
    return bool(document["aerogel"] and document["file"] == out.name)
