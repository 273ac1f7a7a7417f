"""A sentence-transformers directory: pooling, linear layers and normalisation become part of the graph."""

from __future__ import annotations

from pathlib import Path

from aerogel import checkpoint as checkpoints
from aerogel.checkpoint import RECORD_FILE
from aerogel.export.source import Source, Subject
from aerogel.export.sources._zeros import embedding_details, foreign_subject
from aerogel.hf.sentence_transformers import is_sentence_transformers, read_modules
from aerogel.system.atomic_io import sha256

__all__ = ["SOURCE"]


class SentenceTransformers(Source):
    """See the module's docstring."""

    def recognises(self, path: Path) -> bool:
        """See `Source.recognises`."""
        return is_sentence_transformers(path)

    def read(self, path: Path, *, token_embeddings: bool = False) -> Subject:
        """See `Source.read`."""
        from aerogel.export.torch_reference import load_embedder

        modules = read_modules(path)
        # A model that `aerogel prune` wrote; its record says what its zeros cannot.
        record = modules.transformer / RECORD_FILE
        details = {"record_sha256": sha256(record)} if record.is_file() else {}
        return foreign_subject(
            "sentence-transformers",
            modules.transformer,
            lambda: load_embedder(modules, token_embeddings=token_embeddings),
            checkpoints.load(modules.transformer).record if details else None,
            details | {"embedding": embedding_details(modules)},
        )


SOURCE = SentenceTransformers()
