"""Load an exported model."""

from __future__ import annotations

from pathlib import Path

from aerogel.errors import UsageError
from aerogel.model.artifact import find_model, read_artifact
from aerogel.model.core import Core
from aerogel.model.derive import derive_head
from aerogel.model.model import Model
from aerogel.model.tokenizer import TextTokenizer
from aerogel.runtime import session
from aerogel.system.threads import check_threads

__all__ = ["load"]


def load(
    path: str | Path,
    *,
    threads: int | None = None,
    name: str | None = None,
    max_length: int | None = None,
    batch_tokens: int = 16384,
    library: bool | None = None,
    verify: bool = False,
) -> Model:
    """Load an exported model with its tokenizer.

    The model may come from `aerogel export` or another exporter. Its folder must have tokenizer.json, and config.json
    unless the names of the outputs identify the head.

    Args:
        path: the .onnx file, or a folder with the file, directly or in ``onnx/``.
        threads: threads of one call; None for one per core.
        name: .onnx file to choose from a folder with several, e.g. ``"model_sparse"``.
        max_length: truncate texts to this number of tokens; None for the limit of the model.
        batch_tokens: largest number of tokens in a batch; memory grows with it.
        library: True requires the native library, False does not use it (dense speed), None uses it if it is built.
        verify: compare the SHA-256 of the model and its companion files with the manifest.

    Raises:
        UsageError: an argument is out of range, or `name` is needed or unknown.
        ArtifactError: a file is missing, malformed or inconsistent with another.
        RuntimeLoadError: ONNX Runtime cannot load the file, or the required library cannot be loaded.
    """
    for argument, number in (("max_length", max_length), ("batch_tokens", batch_tokens)):
        if number is not None and (type(number) is not int or number < 1):
            raise UsageError(f"{argument}={number!r} must be an integer from 1")
    if threads is not None:
        check_threads(threads)
    artifact = read_artifact(find_model(Path(path), name), verify=verify)
    if max_length is not None and max_length > artifact.max_length:
        raise UsageError(
            f"max_length={max_length}: {artifact.path} takes at most {artifact.max_length} tokens"
        )
    pad_id = artifact.head.pad_id if artifact.head else None
    core = Core(
        artifact.path,
        session(artifact.path, threads, library=library),
        lambda length, types: TextTokenizer(artifact, length, types=types, pad_id=pad_id),
        max_length=max_length or artifact.max_length,
        batch_tokens=batch_tokens,
        free_padding=artifact.fused,
        sentence=artifact.sentence,
    )
    head = artifact.head or derive_head(artifact, list(core.outputs.values()))
    return Model(artifact, head, core, threads)
