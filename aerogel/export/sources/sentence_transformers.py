"""A sentence-transformers directory: pooling, linear layers and normalisation become part of the graph."""

from __future__ import annotations

from pathlib import Path

from aerogel.checkpoint import RECORD_FILE
from aerogel.export.source import Source, Subject
from aerogel.export.sources._zeros import embedding_details, foreign_subject
from aerogel.hf.sentence_transformers import is_sentence_transformers, read_modules

__all__ = ["SOURCE"]


class SentenceTransformers(Source):
    """See the module's docstring."""

    def recognises(self, path: Path) -> bool:
        """See `Source.recognises`."""
        return is_sentence_transformers(path) and not (path / RECORD_FILE).is_file()

    def read(self, path: Path, *, token_embeddings: bool = False) -> Subject:
        """See `Source.read`."""
        from aerogel.export.torch_reference import load_embedder

        modules = read_modules(path)
        return foreign_subject(
            "sentence-transformers",
            modules.transformer,
            lambda: load_embedder(modules, token_embeddings=token_embeddings),
            details={"embedding": embedding_details(modules)},
        )


SOURCE = SentenceTransformers()
