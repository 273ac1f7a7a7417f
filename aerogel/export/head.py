"""What an artifact computes, as its manifest states it for `aerogel.load`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aerogel.export.reference_model import ReferenceModel
    from aerogel.export.source import Subject

__all__ = ["head_of"]

_KINDS = {
    "sentence_embedding": "embed",
    "sparse_embedding": "sparse_embed",
    "token_embeddings": "multi_vector",
}


def head_of(subject: Subject, reference: ReferenceModel) -> dict[str, Any]:
    """The entry ``head`` of the manifest.

    Empty for models whose config.json says what they compute: classifiers, taggers, question answering, masked tokens.
    """
    output = reference.outputs[0]
    if output not in _KINDS or "embedding" not in subject.details:
        return {}
    return {"head": {"kind": _KINDS[output], "output": output, **subject.details["embedding"]}}
