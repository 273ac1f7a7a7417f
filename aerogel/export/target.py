"""Export targets: the kinds of artifact, how each is written, and how it is run for verification."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aerogel.export.parity import Runner
from aerogel.registry import Registry

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["TARGETS", "Target"]


class Target(ABC):
    """One kind of artifact. A module of ``targets/`` defines ``TARGET``, an instance.

    Attributes:
        suffix: suffix of the file name, such as ".onnx".
    """

    suffix: str

    @abstractmethod
    def write(self, model: ir.Model, path: Path, *, inline: bool) -> dict[str, Any]:
        """Write the artifact to `path` and check it.

        Args:
            model: the rewritten graph with its functions.
            path: the file to create; must not exist.
            inline: replace each function call by the function's body.

        Returns:
            Fields for the manifest.

        Raises:
            ExportError: the graph cannot be written as this kind of artifact.
        """

    @abstractmethod
    def size(self, model: ir.Model, *, inline: bool) -> int:
        """Bytes of the artifact that `write` would write; writes nothing.

        Raises:
            ExportError: the graph cannot be written as this kind of artifact.
        """

    @abstractmethod
    def runners(self, path: Path) -> Mapping[str, Runner | str]:
        """Runners of the artifact at `path` by name, slowest first; a string is the reason why a runner is unavailable.

        Raises:
            RuntimeLoadError: an available runtime cannot load the artifact.
        """

    @abstractmethod
    def unrounded(self, path: Path) -> Runner:
        """A runner of the artifact at `path` on a stock runtime, without the rounding of activations.

        Everything else is unchanged, so the stored weights can be verified with a tight tolerance; see
        `aerogel.export.parity`. May write temporary files next to `path`.
        """


TARGETS: Registry[Target] = Registry("target", "aerogel.export.targets", "TARGET")
