"""Find, read and check the files of an exported model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from aerogel.errors import ArtifactError, UsageError
from aerogel.model.document import Document
from aerogel.model.head import Head
from aerogel.model.sentence import Sentence
from aerogel.system.atomic_io import sha256
from aerogel.system.json_fields import Each, Either, Number

__all__ = ["Artifact", "check_hashes", "check_manifest", "find_model", "read_artifact"]

SCHEMA = 1
"""Schema of the manifests that this version reads."""

# Subfolder for ONNX files in the hub's layout; config.json and tokenizer.json are in the folder above.
_HUB_FOLDER = "onnx"
# Longest sequence, in tokens, of a model whose files set no limit.
_DEFAULT_LENGTH = 512
# Largest integer of a field.
_MAX = 2**31
# Model types whose positions start at pad_token_id + 1, so that their tables have that many unused rows.
_POSITIONS_AFTER_PADDING = (
    "camembert", "data2vec-text", "ibert", "longformer", "mpnet", "roberta", "roberta-prelayernorm", "xlm-roberta",
    "xlm-roberta-xl",
)  # fmt: skip


@dataclass(frozen=True)
class Artifact:
    """A model's files.

    Attributes:
        path: the .onnx file.
        folder: the folder of tokenizer.json and config.json.
        config: contents of config.json; empty if the file does not exist.
        tokenizer_config: contents of tokenizer_config.json; empty if the file does not exist.
        special_tokens: contents of special_tokens_map.json; empty if the file does not exist.
        sentence: settings of a sentence-transformers folder, or None.
        head: head in the manifest, or None.
        max_length: longest sequence in tokens, special tokens included.
        density: kept fraction of the pruned matrices' weights, or None.
        fused: whether the encoder is one node, which skips padding.
    """

    path: Path
    folder: Path
    config: Document
    tokenizer_config: Document
    special_tokens: Document
    sentence: Sentence | None
    head: Head | None
    max_length: int
    density: float | None
    fused: bool


def find_model(path: Path, name: str | None) -> Path:
    """The .onnx file that `path` and `name` select.

    Args:
        path: the file, or a folder with the file, directly or in ``onnx/``.
        name: file to choose from a folder, with or without ``onnx/`` and ``.onnx``; None if the folder has one.

    Raises:
        ArtifactError: `path` does not exist, or has no .onnx file.
        UsageError: `name` is not one of the files, or is needed to choose one.
    """
    if path.is_file():
        if name is not None:
            raise UsageError(f"name={name!r} chooses a file of a folder, and {path} is a file; omit name")
        if path.suffix != ".onnx":
            raise ArtifactError(f"{path} is not an .onnx file; pass the model or its folder")
        return path
    if not path.is_dir():
        raise ArtifactError(f"{path} does not exist; pass a folder that `aerogel export` wrote")
    found = {
        file.relative_to(path).with_suffix("").as_posix(): file
        for folder in (path, path / _HUB_FOLDER)
        for file in sorted(folder.glob("*.onnx"))
        if file.is_file()
    }
    if not found:
        raise ArtifactError(f"{path} has no .onnx file; pass a folder that `aerogel export` wrote")
    if name is None:
        if len(found) > 1:
            raise UsageError(f"{path} has {len(found)} models; choose with name=: {', '.join(found)}")
        return next(iter(found.values()))
    wanted = name.removesuffix(".onnx")
    for key in (wanted, f"{_HUB_FOLDER}/{wanted}"):
        if key in found:
            return found[key]
    raise UsageError(f"{path} has no model {name!r}; it has {', '.join(found)}")


def read_artifact(path: Path, *, verify: bool = False) -> Artifact:
    """Read and check the files of a model.

    Args:
        path: the .onnx file.
        verify: compare the SHA-256 of the model and its companion files with the manifest.

    Raises:
        ArtifactError: a file is missing, malformed or from another export; names the file and field.
    """
    folder = next((home for home in _tokenizer_folders(path) if (home / "tokenizer.json").is_file()), None)
    if folder is None:
        raise ArtifactError(
            f"{path.parent / 'tokenizer.json'} does not exist; copy it from the checkpoint, "
            "or save the model's fast tokenizer there"
        )
    config = Document.read_optional(folder / "config.json")
    tokenizer_config = Document.read_optional(folder / "tokenizer_config.json")
    sentence = Sentence.read(folder)
    manifest = Document.read_optional(path.with_suffix(".manifest.json"))
    if manifest.fields:
        check_manifest(manifest, path)
        if verify:
            check_hashes(manifest, path, folder)
    elif verify:
        raise ArtifactError(
            f"{path.with_suffix('.manifest.json')} does not exist, so there are no hashes to compare; "
            "omit verify=True"
        )
    head = manifest.fields.get("head")
    fusions = manifest.get("fusions", Each({"layers?": Either(Number(int, 0, _MAX), None)})) or {}
    limits = [
        manifest.get("max_length", Number(int, 1, _MAX)),
        _positions(config),
        None if manifest.fields else _tokenizer_limit(tokenizer_config),
        sentence.max_length if sentence and not manifest.fields else None,
    ]
    return Artifact(
        path=path,
        folder=folder,
        config=config,
        tokenizer_config=tokenizer_config,
        special_tokens=Document.read_optional(folder / "special_tokens_map.json"),
        sentence=sentence,
        head=None if head is None else Head.from_json(head, manifest.path),
        max_length=min((limit for limit in limits if limit is not None), default=_DEFAULT_LENGTH),
        density=manifest.get("density", Number(float, 0, 1)),
        fused=any(fusion.get("layers") for fusion in fusions.values()),
    )


def _tokenizer_folders(path: Path) -> Iterator[Path]:
    """Folders to search for a model's tokenizer."""
    yield path.parent
    if path.absolute().parent.name == _HUB_FOLDER:
        yield path.absolute().parent.parent


def check_manifest(manifest: Document, path: Path) -> None:
    """Raise ArtifactError if a manifest has another schema or is not of the model `path`."""
    if (schema := manifest.get("schema", int)) != SCHEMA:
        raise ArtifactError(
            f"{manifest.path}: schema is {schema!r} and this version reads {SCHEMA}; "
            "update aerogel, or export the model again"
        )
    size = manifest.get("bytes", Number(int, 0))
    if size is not None and size != path.stat().st_size:
        raise ArtifactError(
            f"{path} has {path.stat().st_size} bytes, but {size} in its manifest; export the model again"
        )


def check_hashes(manifest: Document, path: Path, folder: Path | None = None) -> list[Path]:
    """Compare the SHA-256 of a model and its companions with the manifest.

    Args:
        manifest: the manifest.
        path: the model.
        folder: folder of the companions; None to look for it.

    Returns:
        The files.

    Raises:
        ArtifactError: a file is missing or differs; names it.
    """
    digest = manifest.get("sha256", str)
    if digest is None:
        raise manifest.error("sha256", "a hash")
    companions = manifest.get("companions", Each(str)) or {}
    if wrong := next((name for name in companions if not _inside(name)), None):
        raise ArtifactError(
            f"{manifest.path}: companions: {wrong!r} is not the name of a file in the folder; export the model again"
        )
    if folder is None:
        homes = [
            home for home in _tokenizer_folders(path) if any((home / name).is_file() for name in companions)
        ]
        folder = homes[0] if homes else path.parent
    files = {path: digest} | {folder / name: value for name, value in companions.items()}
    if external := manifest.get("external", {"file": str, "sha256": str}):
        if not _inside(external["file"]) or "/" in external["file"]:
            raise manifest.error("external", "the name of a file beside the model")
        files[path.parent / external["file"]] = external["sha256"]
    for file, expected in files.items():
        if not file.is_file():
            raise ArtifactError(
                f"{file} does not exist, but {manifest.path} lists it; export the model again"
            )
        if sha256(file) != expected:
            raise ArtifactError(f"{file} differs from its SHA-256 in {manifest.path}; export the model again")
    return list(files)


def _inside(name: str) -> bool:
    """Whether a name is a relative path that does not leave its folder."""
    parts = name.split("/")
    return not any(part in ("", ".", "..") or "\\" in part or ":" in part or "\0" in part for part in parts)


def _positions(config: Document) -> int | None:
    """Tokens that the model has positions for; None without a limit."""
    rows: int | None = config.get("max_position_embeddings", Number(int, -1, _MAX))
    if rows is None or rows < 1:
        return None
    if config.get("model_type", str) in _POSITIONS_AFTER_PADDING:
        padding = config.get("pad_token_id", Number(int, 0, _MAX))
        rows -= 1 + (1 if padding is None else padding)
    if rows < 1:
        raise config.error("max_position_embeddings", "more than pad_token_id + 1")
    return rows


def _tokenizer_limit(config: Document) -> int | None:
    """The tokenizer's limit in tokens; None without one, which transformers writes as 1e30."""
    limit = config.get("model_max_length", Number(float, 1))
    return None if limit is None or limit > _MAX else int(limit)
