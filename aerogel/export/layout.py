"""Layouts: where the files of a verified artifact go, and how they are put there."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aerogel.errors import UsageError
from aerogel.registry import Registry

if TYPE_CHECKING:
    from aerogel.export.config import ExportConfig

__all__ = ["LAYOUTS", "Layout", "Placement"]


@dataclass(frozen=True)
class Placement:
    """A verified artifact that is ready to be put in place.

    Attributes:
        artifact: the model, in a temporary folder; it may be moved.
        manifest: a JSON object.
        companions: source file of each companion, by its path relative to the folder of config.json.
        served: contents of companions that are not plain copies, by the same path.
    """

    artifact: Path
    manifest: dict[str, Any]
    companions: Mapping[str, Path]
    served: Mapping[str, bytes]

    def content(self, name: str) -> bytes:
        """Bytes of a companion."""
        return self.served[name] if name in self.served else self.companions[name].read_bytes()


class Layout(ABC):
    """One layout. A module of ``layouts/`` defines ``LAYOUT``, an instance.

    Attributes:
        token_output: name under which an embedder's token states are exported; None to export them only on request.
        serving_tokenizer: whether tokenizer.json gets the model's truncation and padding (`aerogel.export.serving`).
    """

    token_output: str | None = None
    serving_tokenizer: bool = True

    @abstractmethod
    def model_path(self, config: ExportConfig) -> Path:
        """Path of the model's file in the finished artifact."""

    @abstractmethod
    def companions(self, source: Path, folder: Path) -> dict[str, Path]:
        """Files that are copied with the model, by their path relative to the folder of config.json.

        Args:
            source: what is exported: a directory or an .onnx file.
            folder: the directory of its config.json and tokenizer.
        """

    @abstractmethod
    def check(self, config: ExportConfig, suffix: str, source: Path, inputs: Mapping[str, Path]) -> None:
        """Check, before any work, that the output can be written and would not replace a file of the user.

        Args:
            config: what to export; its `out` is the artifact, its `force` allows replacing files.
            suffix: suffix that the name of `out` must have; "" for a folder.
            source: what is exported.
            inputs: other files and folders that the export reads, by flag.

        Raises:
            UsageError: a file would be replaced, or the name is not possible.
            OutputError: a file cannot be written.
        """

    @abstractmethod
    def place(self, placement: Placement, config: ExportConfig) -> None:
        """Put the finished files in place, so that a complete manifest comes last.

        Raises:
            OutputError: a file cannot be written.
        """

    def check_push(self, repo_id: str) -> None:
        """Check, before any work, that ``--push`` is possible.

        Raises:
            UsageError: it is not; says why.
        """
        raise UsageError(f"--push {repo_id}: only --layout hub can be pushed; add it")


LAYOUTS: Registry[Layout] = Registry("layout", "aerogel.export.layouts", "LAYOUT")
