"""The files of an exported model: which ones they are, and what they say, checked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from aerogel.errors import ArtifactError, UsageError
from aerogel.model.fields import Fields
from aerogel.model.head import Head
from aerogel.model.sentence import Sentence
from aerogel.system.atomic_io import sha256

__all__ = ["Artifact", "find_model", "read_artifact"]

SCHEMA = 1
"""The schema of manifests that this reads."""

# Where the hub keeps ONNX files, below the folder of config.json and tokenizer.json.
_HUB_FOLDER = "onnx"
# Longest sequence to expect of a model whose files set no limit.
_UNBOUNDED = 512
# These count positions from behind the padding token's number: their tables have that many rows more.
_POSITIONS_AFTER_PADDING = (
    "camembert", "data2vec-text", "ibert", "longformer", "mpnet", "roberta", "roberta-prelayernorm", "xlm-roberta",
    "xlm-roberta-xl",
)  # fmt: skip


@dataclass(frozen=True)
class Artifact:
    """A model's files.

    Attributes:
        path: the .onnx file.
        folder: where tokenizer.json and config.json are.
        config: contents of config.json; no fields where the file does not exist.
        tokenizer_config: contents of tokenizer_config.json, likewise.
        special_tokens: contents of special_tokens_map.json, likewise.
        sentence: settings of a sentence-transformers folder, or None.
        head: what the manifest says the model computes, or None.
        max_length: longest sequence in tokens, special ones included.
        density: share of the pruned matrices' weights that are kept, or None.
        fused: whether the encoder is one node, which skips padding.
    """

    path: Path
    folder: Path
    config: Fields
    tokenizer_config: Fields
    special_tokens: Fields
    sentence: Sentence | None
    head: Head | None
    max_length: int
    density: float | None
    fused: bool


def find_model(path: Path, name: str | None) -> Path:
    """The .onnx file that `path` and `name` mean.

    Args:
        path: the file, or a folder that has it, directly or in ``onnx/``.
        name: which of a folder's files, with or without ``onnx/`` and ``.onnx``; None where it has one.

    Raises:
        ArtifactError: `path` does not exist, or has no .onnx file.
        UsageError: `name` is not among the files, or is needed to choose one.
    """
    if path.is_file():
        if name is not None:
            raise UsageError(f"name={name!r} is for a folder, and {path} is a file; leave it out")
        if path.suffix != ".onnx":
            raise ArtifactError(f"{path} is not an .onnx file; give the model or its folder")
        return path
    if not path.is_dir():
        raise ArtifactError(f"{path} does not exist; give a folder that `aerogel export` wrote to")
    found = {
        file.relative_to(path).with_suffix("").as_posix(): file
        for folder in (path, path / _HUB_FOLDER)
        for file in sorted(folder.glob("*.onnx"))
        if file.is_file()
    }
    if not found:
        raise ArtifactError(f"{path} has no .onnx file; give a folder that `aerogel export` wrote to")
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
    """Read and check the files that belong to a model.

    Args:
        path: the .onnx file.
        verify: compare the SHA-256 of the model and of its companions with the manifest.

    Raises:
        ArtifactError: a file is missing or malformed, or belongs to another export; the message names the file and
            the field.
    """
    folder = next((home for home in _homes(path) if (home / "tokenizer.json").is_file()), None)
    if folder is None:
        raise ArtifactError(
            f"{path.parent / 'tokenizer.json'} does not exist; copy it from the checkpoint, "
            "or save the model's fast tokenizer there"
        )
    config = Fields.read_optional(folder / "config.json")
    tokenizer_config = Fields.read_optional(folder / "tokenizer_config.json")
    sentence = Sentence.read(folder)
    manifest = Fields.read_optional(path.with_suffix(".manifest.json"))
    if manifest.values:
        _check_manifest(manifest, path, folder, verify)
    elif verify:
        raise ArtifactError(
            f"{path.with_suffix('.manifest.json')} does not exist, so there are no hashes to compare; "
            "leave verify=True out"
        )
    head = manifest.values.get("head")
    density = manifest.number("density")
    if density is not None and not 0 <= density <= 1:
        raise manifest.refuse("density", "a number from 0 to 1")
    limits = [
        manifest.integer("max_length", 1),
        _positions(config),
        None if manifest.values else _tokenizer_limit(tokenizer_config),
        sentence.max_length if sentence and not manifest.values else None,
    ]
    return Artifact(
        path=path,
        folder=folder,
        config=config,
        tokenizer_config=tokenizer_config,
        special_tokens=Fields.read_optional(folder / "special_tokens_map.json"),
        sentence=sentence,
        head=None if head is None else Head.from_json(head, f"{manifest.where}: head"),
        max_length=min((limit for limit in limits if limit is not None), default=_UNBOUNDED),
        density=density,
        fused=any(count > 0 for count in _fused_layers(manifest)),
    )


def _homes(path: Path) -> Iterator[Path]:
    """Folders that may have a model's tokenizer."""
    yield path.parent
    if path.absolute().parent.name == _HUB_FOLDER:
        yield path.absolute().parent.parent


def _check_manifest(manifest: Fields, path: Path, folder: Path, verify: bool) -> None:
    """Refuse the manifest of another schema, or of another file."""
    if manifest.integer("schema", 1) != SCHEMA:
        raise ArtifactError(
            f"{manifest.where}: schema is {manifest.values.get('schema')!r} and this version reads {SCHEMA}; "
            "update aerogel, or export the model again"
        )
    size = manifest.integer("bytes", 0, 2**63)
    if size is not None and size != path.stat().st_size:
        raise ArtifactError(
            f"{path} has {path.stat().st_size} bytes and its manifest says {size}; export the model again"
        )
    if not verify:
        return
    digest = manifest.text("sha256")
    if digest is None:
        raise manifest.refuse("sha256", "a hash")
    companions = manifest.text_map("companions") or {}
    if strange := next((name for name in companions if Path(name).name != name), None):
        raise ArtifactError(f"{manifest.where}: companions: {strange!r} is not the name of a file")
    files = {path: digest} | {folder / name: value for name, value in companions.items()}
    for file, expected in files.items():
        if not file.is_file():
            raise ArtifactError(f"{file} does not exist, and {manifest.where} lists it; export again")
        if sha256(file) != expected:
            raise ArtifactError(f"{file} is not the file that {manifest.where} lists; export the model again")


def _fused_layers(manifest: Fields) -> Iterator[int]:
    """Of each fusion, how many layers are one node."""
    fusions = manifest.object("fusions")
    for name in fusions.values if fusions else ():
        fusion = fusions.object(name) if fusions else None
        yield (fusion.integer("layers", 0) if fusion else None) or 0


def _positions(config: Fields) -> int | None:
    """Tokens for which the model has positions; None where it sets no limit."""
    rows = config.integer("max_position_embeddings", -1)
    if rows is None or rows < 1:
        return None
    if config.text("model_type") in _POSITIONS_AFTER_PADDING:
        padding = config.integer("pad_token_id", 0)
        rows -= 1 + (1 if padding is None else padding)
    if rows < 1:
        raise config.refuse("max_position_embeddings", "more than pad_token_id + 1")
    return rows


def _tokenizer_limit(config: Fields) -> int | None:
    """The tokenizer's own limit; one without a limit says 1e30."""
    limit = config.number("model_max_length")
    if limit is not None and limit < 1:
        raise config.refuse("model_max_length", "a number from 1")
    return None if limit is None or limit > 2**31 else int(limit)
