"""A directory of transformers, dense or with zeros: exact zeros are the mask."""

from __future__ import annotations

from pathlib import Path

from aerogel.checkpoint import RECORD_FILE
from aerogel.errors import UsageError
from aerogel.export.source import Source, Subject
from aerogel.export.sources._zeros import foreign_subject
from aerogel.hf.sentence_transformers import is_sentence_transformers

__all__ = ["SOURCE"]


class Transformers(Source):
    """See the module's docstring."""

    def recognises(self, path: Path) -> bool:
        """See `Source.recognises`."""
        known = (path / RECORD_FILE).is_file() or is_sentence_transformers(path)
        return (path / "config.json").is_file() and not known

    def read(self, path: Path, *, token_embeddings: bool = False) -> Subject:
        """See `Source.read`."""
        if token_embeddings:
            raise UsageError(f"--token-embeddings: {path} is not a sentence-transformers model")
        from aerogel.export.torch_reference import load_reference

        return foreign_subject("transformers", path, lambda: load_reference(path))


SOURCE = Transformers()
