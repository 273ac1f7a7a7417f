"""The output directory of an export: check it before the work, write it after.

``--out DIR/model.onnx`` writes DIR/model.onnx, DIR/model.manifest.json, and companions: copies of the checkpoint's
config.json and tokenizer files. Only tokenizer.json differs from the checkpoint's, in truncation and padding
(`aerogel.export.serving`). Several exports of one checkpoint can share a directory; equal files are not written again.
A file of the same name with other contents is overwritten only with ``--force``.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from aerogel.errors import UsageError
from aerogel.export.serving import TOKENIZER_FILE, same_tokenizer
from aerogel.hf.sentence_transformers import is_sentence_transformers, module_files
from aerogel.runtime.artifact import data_files, manifest_path
from aerogel.system.atomic_io import atomic_file, check_output, sha256
from aerogel.system.json_fields import Each, MalformedJsonError, read
from aerogel.system.overlap import check_inputs_preserved

if TYPE_CHECKING:
    from aerogel.export.layout import Placement

__all__ = [
    "all_companions",
    "check_files",
    "check_out",
    "companions",
    "is_export",
    "model_folder",
    "place",
    "written_names",
]

# All files of the tokenizers in transformers.
_TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.txt",
    "vocab.json", "merges.txt", "sentencepiece.bpe.model", "spiece.model",
)  # fmt: skip


def model_folder(path: Path) -> Path:
    """The directory with config.json and tokenizer of a model: of a file, its own or the one above onnx/."""
    if path.is_dir():
        return path
    return path.parent.parent if path.parent.name == "onnx" else path.parent


def companions(checkpoint: Path) -> list[Path]:
    """The files of a checkpoint directory that are copied next to the model."""
    return [path for name in ("config.json", *_TOKENIZER_FILES) if (path := checkpoint / name).is_file()]


def all_companions(source: Path, folder: Path) -> dict[str, Path]:
    """`companions` and the files of later sentence-transformers modules, by path relative to the model's directory.

    Args:
        source: what is exported: a directory or a file.
        folder: directory of its config.json and tokenizer.
    """
    files = {file.name: file for file in companions(folder)}
    root = model_folder(source)
    if is_sentence_transformers(root):
        files |= {file.relative_to(root).as_posix(): file for file in module_files(root)}
    return files


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
    copies = {out.parent / file.name: file for file in companions(folder)}
    check_files(out, copies, force=force, inputs={"the checkpoint": checkpoint, **(inputs or {})})


def check_files(
    out: Path,
    copies: Mapping[Path, Path],
    *,
    force: bool,
    inputs: Mapping[str, Path],
    others: Iterable[Path] = (),
) -> None:
    """Check that a model, its manifest and companions can be written without replacing a foreign file.

    Args:
        out: the model's file.
        copies: the file that each companion is a copy of, by its destination. One that is its own copy is not written.
        force: allow overwriting files that no export of this model wrote.
        inputs: what the export reads, by description; never overwritten.
        others: more files that the export writes.

    Raises:
        UsageError: a file would replace an input or, unless `force`, a file that no export of this model wrote.
        OutputError: a file cannot be written.
    """
    written = {copy: file for copy, file in copies.items() if not (copy.exists() and copy.samefile(file))}
    for path in (out, manifest_path(out), *written, *others):
        check_output(path)
        check_inputs_preserved({"--out: its file": path}, inputs)
    if force:
        return
    existing = next((file for file in (out, manifest_path(out)) if file.exists()), None)
    if existing and not (existing.is_file() and is_export(out)):
        raise UsageError(
            f"--out: {existing} exists and is not from an earlier export; choose another name, or add --force"
        )
    for copy, file in written.items():
        if (
            copy.exists()
            and not (copy.is_file() and sha256(copy) == sha256(file))
            and not _is_served_copy(file, copy)
        ):
            raise UsageError(
                f"{copy} exists and differs from the checkpoint's; choose another folder for --out, or add --force"
            )


def place(placement: Placement, folder: Path, out: Path) -> None:
    """Write the companions, move the finished artifact and its weights to `out`, then write its manifest.

    The manifest comes last: if its ``sha256`` is that of the artifact, the export is complete.

    Args:
        placement: the files; its artifact is moved.
        folder: where the companions go.
        out: destination of the artifact.
    """
    for name in placement.companions:
        copy, content = folder / name, placement.content(name)
        if not copy.is_file() or copy.read_bytes() != content:
            with atomic_file(copy) as temporary:
                temporary.write_bytes(content)
    data = data_files(placement.artifact)
    for file in data:
        with atomic_file(out.parent / file.name) as temporary:
            shutil.move(file, temporary)
    with atomic_file(out) as temporary:
        shutil.move(placement.artifact, temporary)  # another file system if `out` is a link to one
    with atomic_file(manifest_path(out)) as temporary:
        temporary.write_text(json.dumps(placement.manifest, indent=2) + "\n", encoding="utf-8")
    for file in data_files(out):
        if file.name not in {new.name for new in data}:
            file.unlink()  # of an earlier export of this name


def _is_served_copy(file: Path, copy: Path) -> bool:
    """Whether `copy` differs from the checkpoint's `file` only in what an export changes."""
    return file.name == TOKENIZER_FILE and same_tokenizer(file, copy)


def is_export(out: Path) -> bool:
    """Whether the manifest next to `out` is that of an export of this name."""
    if not manifest_path(out).is_file():
        return False
    try:
        document = read(manifest_path(out), {"aerogel": str, "file": str})
    except (OSError, MalformedJsonError):
        return False
    return bool(document["aerogel"] and document["file"] == out.name)


def written_names(out: Path) -> set[str]:
    """Names of the files that the export at `out` wrote, as its manifest lists them; see `is_export`."""
    document = read(manifest_path(out), {"companions?": Each(str)})
    return {out.name, manifest_path(out).name, *document.get("companions", {})}
