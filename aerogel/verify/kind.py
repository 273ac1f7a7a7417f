"""Kinds of artifacts that can be verified: one for each target of the export."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from aerogel.errors import ArtifactError
from aerogel.model.document import Document
from aerogel.registry import Registry

__all__ = ["KINDS", "Check", "Kind", "manifest_of"]


@dataclass(frozen=True)
class Check:
    """One check that an artifact has passed.

    Attributes:
        file: what was checked.
        name: "hashes", "structure" or "outputs".
        detail: what was found, in words.
    """

    file: str
    name: str
    detail: str


class Kind(ABC):
    """How one kind of artifact is verified. A module of ``kinds/`` defines ``KIND``, an instance."""

    @abstractmethod
    def recognises(self, path: Path) -> bool:
        """Whether the file or folder `path` is an artifact of this kind. At most one kind answers yes."""

    @abstractmethod
    def check(self, path: Path, threads: int | None) -> Iterator[Check]:
        """Yield each check that `path` passes.

        Args:
            path: what `recognises` said yes to.
            threads: intra-op threads of ONNX Runtime; None for one per core.

        Raises:
            ArtifactError: the first check that fails; names the file and what differs.
        """


KINDS: Registry[Kind] = Registry("kind of artifact", "aerogel.verify.kinds", "KIND")


def manifest_of(path: Path, manifest: Path) -> Document:
    """The manifest of an artifact.

    Raises:
        ArtifactError: it is missing or malformed.
    """
    if not manifest.is_file():
        raise ArtifactError(
            f"{manifest} does not exist, so {path.name} cannot be verified; export the model again"
        )
    return Document.read(manifest)
