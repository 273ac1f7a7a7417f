"""Export a model's parameters instead of a graph: sparse checkpoints for PyTorch and other programs."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from aerogel.errors import ExportError, UsageError
from aerogel.export.compact import COMPACT
from aerogel.export.head import head_of
from aerogel.export.manifest import manifest
from aerogel.export.plan import FP32, make_plan
from aerogel.export.target import Target
from aerogel.system.atomic_io import sha256, staging

if TYPE_CHECKING:
    from aerogel.export.config import ExportConfig
    from aerogel.export.layout import Layout
    from aerogel.export.plan import StoragePlan
    from aerogel.export.source import Subject

__all__ = ["StateTarget", "export_state"]

# Options of ExportConfig that only a graph has, by flag.
_GRAPH_ONLY = {
    "--inline": "inline", "--token-embeddings": "token_embeddings", "--verify-text": "verify_text",
    "--verify-task": "verify_task",
}  # fmt: skip


class StateTarget(Target):
    """An artifact of parameters. A module of ``targets/`` defines ``TARGET``, an instance."""

    def check_options(self, config: ExportConfig) -> None:
        """See `Target.check_options`."""
        for flag, field in _GRAPH_ONLY.items():
            if getattr(config, field):
                raise UsageError(f"{flag}: --to {config.target} writes parameters and not a graph; omit it")
        if config.format == COMPACT:
            raise UsageError(
                f"--format {COMPACT}: --to {config.target} keeps every parameter; use another format"
            )
        if config.embeddings != FP32:
            raise UsageError(
                f"--embeddings {config.embeddings}: --to {config.target} stores them as fp32; omit it"
            )

    @abstractmethod
    def write(
        self, path: Path, parameters: Mapping[str, np.ndarray], plan: Mapping[str, StoragePlan]
    ) -> None:
        """Write the artifact to `path`.

        Args:
            path: the file to create.
            parameters: all parameters by name.
            plan: how the matrices among them are stored.
        """

    @abstractmethod
    def read(self, path: Path) -> Mapping[str, np.ndarray]:
        """All parameters of the artifact at `path`, dense."""

    def config_json(self, content: bytes, plan: Mapping[str, StoragePlan]) -> bytes:
        """Content of the config.json next to the artifact, from the model's."""
        del plan
        return content


def export_state(
    config: ExportConfig,
    target: StateTarget,
    layout: Layout,
    subject: Subject,
    companions: Mapping[str, Path],
) -> dict[str, Any]:
    """Write the parameters of a model, read them back, compare, and only then put them in place.

    Returns:
        The manifest, as written beside the artifact.

    Raises:
        AerogelError: the message says what is wrong; nothing has been written.
    """
    from aerogel.export.layout import Placement

    if subject.kind == "onnx":
        raise UsageError(
            f"--to {config.target}: {config.source} is an .onnx file, whose parameters have no names of a model; "
            "export the directory of transformers that it was made from"
        )
    reference = subject.load()
    parameters = reference.parameters()
    plan = make_plan(
        subject, config.format, config.block, config.max_density, config.weights, None, subject.read
    )
    with staging(config.out) as folder:
        artifact = folder / layout.model_path(config).name
        target.write(artifact, parameters, plan)
        _compare(target.read(artifact), parameters, plan)
        served = {}
        if "config.json" in companions:
            served["config.json"] = target.config_json(companions["config.json"].read_bytes(), plan)
        placement = Placement(artifact, {}, companions, served)
        document = manifest(
            config,
            subject,
            plan,
            {},
            artifact,
            {"tensors": len(parameters), "task": None, **head_of(subject, reference)},
            {},
            reference.max_length,
            {"reason": "parameters without a graph"},
            {name: _digest(placement, name) for name in companions},
        )
        layout.place(Placement(artifact, document, companions, served), config)
    return document


def _digest(placement: Any, name: str) -> str:
    import hashlib

    if name in placement.served:
        return hashlib.sha256(placement.served[name]).hexdigest()
    return sha256(placement.companions[name])


def _compare(
    found: Mapping[str, np.ndarray], parameters: Mapping[str, np.ndarray], plan: Mapping[str, StoragePlan]
) -> None:
    """Compare what was read back with the parameters, bit for bit; of rounded matrices, with the rounded values."""
    if found.keys() != parameters.keys():
        name = sorted(found.keys() ^ parameters.keys())[0]
        raise ExportError(f"{name} was lost or added when the parameters were read back; report this")
    for name, value in parameters.items():
        expected = plan[name].rounded() if name in plan else value
        if found[name].shape != expected.shape or not np.array_equal(found[name], expected):
            raise ExportError(f"{name} differs after the parameters were read back; report this")
