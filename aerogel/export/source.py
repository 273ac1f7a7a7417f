"""What can be exported: one value for every kind of source, whatever it was read from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aerogel.errors import UsageError
from aerogel.registry import Registry
from aerogel.sparse.density import Accounting, account

if TYPE_CHECKING:
    import numpy as np

    from aerogel.checkpoint import Record
    from aerogel.export.reference_model import ReferenceModel

__all__ = ["SOURCES", "Source", "Subject", "find_source"]


@dataclass(frozen=True)
class Subject:
    """A model to export.

    Attributes:
        kind: name of the source that read it.
        path: its directory.
        record: how it was made; of a model that Aerogel did not train, what its zeros say.
        masks: boolean ``[out, in]`` by weight name, for every matrix that can be stored packed; True is kept.
        read: gives the float32 weights ``[out, in]`` of the matrices named.
        load: gives the model as PyTorch runs it.
        details: what the manifest says of the source besides.
    """

    kind: str
    path: Path
    record: Record
    masks: Mapping[str, np.ndarray]
    read: Callable[[list[str]], Mapping[str, np.ndarray]]
    load: Callable[[], ReferenceModel]
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def accounting(self) -> Accounting:
        """Densities of the matrices and of the encoder."""
        return account(self.masks, self.record.encoder_parameters)


class Source(ABC):
    """One kind of model to export. A module of ``sources/`` defines ``SOURCE``, an instance."""

    @abstractmethod
    def recognises(self, path: Path) -> bool:
        """Whether the file or directory `path` is of this kind. Of all kinds, at most one answers yes."""

    @abstractmethod
    def read(self, path: Path, *, token_embeddings: bool = False) -> Subject:
        """Read the model.

        Args:
            path: what `recognises` said yes to.
            token_embeddings: export the token states of an embedder as well.

        Raises:
            AerogelError: it is damaged, or cannot be exported; the message names the file or tensor.
        """


SOURCES: Registry[Source] = Registry("source", "aerogel.export.sources", "SOURCE")


def find_source(path: Path) -> Source:
    """The kind of source that `path` is.

    Raises:
        UsageError: it does not exist, or is nothing that can be exported; the message lists what can.
    """
    for name in SOURCES.names():
        source = SOURCES.get(name)
        if source.recognises(path):
            return source
    if not path.exists():
        raise UsageError(f"{path} does not exist; give a directory, an .onnx file or a hub id")
    raise UsageError(
        f"{path} is not a model: it has no config.json, and is not an .onnx file; give an Aerogel checkpoint, "
        "a transformers or sentence-transformers directory, or an .onnx file"
    )
