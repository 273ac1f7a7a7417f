"""Export targets: the kinds of artifact, how each is written, and how it is run for verification."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aerogel.errors import UsageError
from aerogel.export.layout import LAYOUTS, Layout
from aerogel.export.parity import Runner
from aerogel.registry import Registry

if TYPE_CHECKING:
    import onnx_ir as ir

    from aerogel.export.config import ExportConfig

__all__ = ["TARGETS", "GraphTarget", "Target"]


class Target(ABC):
    """One kind of artifact. A module of ``targets/`` defines ``TARGET``.

    It is a `GraphTarget`, or an `aerogel.export.state.StateTarget` for parameters without a graph.

    Attributes:
        suffix: suffix of the name of ``--out``, such as ".onnx"; "" where it is a folder.
        layouts: names of the layouts that it can have, the default first.
    """

    suffix: str
    layouts: tuple[str, ...]

    def layout(self, name: str | None) -> Layout:
        """The layout that ``--layout`` names, or the default.

        Raises:
            UsageError: artifacts of this kind do not have it.
        """
        name = name or self.layouts[0]
        if name in LAYOUTS.names() and name not in self.layouts:
            raise UsageError(
                f"--layout {name}: not for this target; it has the layout{'s' * (len(self.layouts) > 1)} "
                f"{', '.join(self.layouts)}"
            )
        return LAYOUTS.get(name)

    def check_options(self, config: ExportConfig) -> None:  # noqa: B027 - most targets take every option
        """Check, before any work, that an artifact of this kind can be made as `config` says.

        Raises:
            UsageError: an option is not for this kind; names the flag.
        """


class GraphTarget(Target):
    """An artifact that runs."""

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
