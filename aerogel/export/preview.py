"""What an export would do (`--dry-run`): formats, sizes and predicted speed. Nothing is written."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from aerogel import __version__
from aerogel.errors import UsageError
from aerogel.export.config import ExportConfig
from aerogel.export.manifest import SCHEMA, embeddings_document, matrices_document
from aerogel.export.prepare import Progress, check, prepare, read
from aerogel.export.sizes import part_sizes
from aerogel.export.target import GraphTarget

__all__ = ["preview"]


def preview(config: ExportConfig, progress: Progress = lambda *_: None) -> dict[str, Any]:
    """Prepare an export, and describe the artifact without writing it.

    Args:
        config: what to do; texts and tasks of the verification are not read.
        progress: called with (stage, steps done, steps in all).

    Returns:
        A JSON object. The fields are those of the manifest; ``bytes`` is the size that the file would have, and
        ``sizes`` its parts, see `aerogel.export.sizes.part_sizes`.

    Raises:
        AerogelError: what stops the export before it writes.
    """
    checked = check(config)
    if not isinstance(checked.target, GraphTarget):
        raise UsageError(f"--dry-run: --to {config.target} has no graph to preview; omit it")
    subject = read(checked)
    prepared = prepare(checked, subject, progress)
    size = checked.target.size(prepared.graph, inline=config.inline)
    accounting = subject.accounting
    return {
        "schema": SCHEMA,
        "aerogel": __version__,
        "dry_run": True,
        "target": config.target,
        "file": checked.layout.model_path(config).name,
        "bytes": size,
        "sizes": part_sizes(prepared.graph, size),
        "max_length": prepared.reference.max_length,
        "format": config.format,
        "weights": config.weights,
        "matrices": matrices_document(prepared.plan, subject.masks),
        "removed": asdict(prepared.removed) if prepared.removed else None,
        "embeddings": embeddings_document(prepared.tables),
        "fusions": {name: asdict(fused) for name, fused in prepared.fusions.items()},
        "left_out": prepared.reference.left_out(),
        "prediction": prepared.prediction,
        "density": accounting.density,
        "encoder_density": accounting.encoder_density,
        "source": {"kind": subject.kind, "block": list(subject.record.block)},
    }
