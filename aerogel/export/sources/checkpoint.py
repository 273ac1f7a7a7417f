"""A checkpoint directory that Aerogel wrote: its masks say what is pruned."""

from __future__ import annotations

from pathlib import Path

from aerogel import checkpoint as checkpoints
from aerogel.checkpoint import RECORD_FILE
from aerogel.errors import UsageError
from aerogel.export.plan import read_weights
from aerogel.export.source import Source, Subject
from aerogel.export.sources._zeros import foreign_subject
from aerogel.hf.sentence_transformers import is_sentence_transformers
from aerogel.system.atomic_io import sha256

__all__ = ["SOURCE"]


class Checkpoint(Source):
    """See the module's docstring."""

    def recognises(self, path: Path) -> bool:
        """See `Source.recognises`."""
        return (path / RECORD_FILE).is_file() and not is_sentence_transformers(path)

    def read(self, path: Path, *, token_embeddings: bool = False) -> Subject:
        """See `Source.read`."""
        if token_embeddings:
            raise UsageError(f"--token-embeddings: {path} is not a sentence-transformers model")
        from aerogel.export.torch_reference import load_reference

        found = checkpoints.load(path)
        details = {"record_sha256": sha256(path / RECORD_FILE)}
        if not found.masks:  # a dense model: every matrix is kept whole
            return foreign_subject("checkpoint", path, lambda: load_reference(path), found.record, details)
        return Subject(
            "checkpoint", path, found.record, found.masks,
            lambda names: read_weights(path, names), lambda: load_reference(path), details,
        )  # fmt: skip


SOURCE = Checkpoint()
