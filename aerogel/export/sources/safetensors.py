"""A sparse checkpoint in one .safetensors file, with its config.json and tokenizer in the same folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from aerogel.checkpoint.sparse_file import is_sparse_file, read_sparse_file
from aerogel.errors import UsageError
from aerogel.export.source import Source, Subject
from aerogel.export.sources._zeros import embedding_details, foreign_subject
from aerogel.hf.sentence_transformers import is_sentence_transformers, read_modules

if TYPE_CHECKING:
    import torch

__all__ = ["SOURCE"]


class Safetensors(Source):
    """See the module's docstring."""

    def recognises(self, path: Path) -> bool:
        """See `Source.recognises`."""
        return is_sparse_file(path) and (path.parent / "config.json").is_file()

    def read(self, path: Path, *, token_embeddings: bool = False) -> Subject:
        """See `Source.read`."""
        from aerogel.export.torch_reference import load_embedder, load_reference

        folder, weights = path.parent, _weights(path)
        if not is_sentence_transformers(folder):
            if token_embeddings:
                raise UsageError(f"--token-embeddings: {path} is not a sentence-transformers model")
            return foreign_subject("safetensors", folder, lambda: load_reference(folder, weights))
        modules = read_modules(folder)
        return foreign_subject(
            "safetensors",
            modules.transformer,
            lambda: load_embedder(modules, token_embeddings=token_embeddings, weights=weights),
            details={"embedding": embedding_details(modules)},
        )


def _weights(path: Path) -> dict[str, torch.Tensor]:
    import torch

    return {name: torch.from_numpy(value) for name, value in read_sparse_file(path).items()}


SOURCE = Safetensors()
