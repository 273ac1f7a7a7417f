"""What an artifact can be: a kind of file, how it is written, and how it is run for verification."""

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
        suffix: how its file name ends.
    """

    suffix: str

    @abstractmethod
    def write(self, model: ir.Model, path: Path, *, inline: bool) -> dict[str, Any]:
        """Write the artifact to `path` and check it.

        Args:
            model: the rewritten graph with its functions.
            path: the file to make; nothing is there yet.
            inline: put the functions' bodies in place of their calls.

        Returns:
            What the manifest says of it.

        Raises:
            ExportError: the graph cannot be written in this form.
        """

    @abstractmethod
    def runners(self, path: Path) -> Mapping[str, Runner | str]:
        """Ways to run the artifact at `path`, by name; a string in place of a function says why one cannot be had.

        Raises:
            RuntimeLoadError: a runtime that is there refuses the artifact.
        """

    @abstractmethod
    def unrounded(self, path: Path) -> Runner:
        """Run the artifact at `path`, on what runs it without kernels of ours, with activations left as they are.

        Rounding them is all that is left out: what stands in the file is checked closely so, see
        `aerogel.export.parity`. May write beside `path`.
        """


TARGETS: Registry[Target] = Registry("target", "aerogel.export.targets", "TARGET")
