"""The manifest beside an artifact: what it is, what it was made from, and how far it was verified."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aerogel import __version__
from aerogel.export.embeddings import Table
from aerogel.export.plan import StoragePlan
from aerogel.export.reference_model import TOLERANCE
from aerogel.system.atomic_io import sha256

if TYPE_CHECKING:
    import numpy as np

    from aerogel.export.config import ExportConfig
    from aerogel.export.source import Subject

__all__ = ["SCHEMA", "embeddings_document", "manifest", "matrices_document"]

SCHEMA = 1


def manifest(
    config: ExportConfig,
    subject: Subject,
    plan: Mapping[str, StoragePlan],
    tables: Mapping[str, Table],
    artifact: Path,
    details: dict[str, Any],
    parity: dict[str, Any],
    max_length: int,
    prediction: dict[str, Any],
    companions: Mapping[str, str],
) -> dict[str, Any]:
    """Assemble the manifest; every value is plain JSON. Sizes are in bytes, densities are fractions.

    Args:
        config: what was exported, and how.
        subject: the model, as it was read.
        plan: how each matrix is stored, by name.
        tables: how each embedding table is stored, by name.
        artifact: the file that was written.
        details: what the target, the head and the evaluation add.
        parity: comparisons by runner.
        max_length: longest sequence in tokens.
        prediction: the predicted speed.
        companions: SHA-256 of each companion by its path relative to the folder of config.json.
    """
    record, accounting = subject.record, subject.accounting
    return {
        "schema": SCHEMA,
        "aerogel": __version__,
        "target": config.target,
        "file": artifact.name,
        "bytes": artifact.stat().st_size,
        "sha256": sha256(artifact),
        **details,
        "max_length": max_length,
        "format": config.format,
        "weights": config.weights,
        "matrices": matrices_document(plan, subject.masks),
        "embeddings": embeddings_document(tables),
        "prediction": prediction,
        "density": accounting.density,
        "encoder_density": accounting.encoder_density,
        "parity": {"tolerance": TOLERANCE, **parity},
        "source": {
            "kind": subject.kind,
            **{key: value for key, value in subject.details.items() if key != "embedding"},
            "method": record.method,
            "config": record.config,
            "block": list(record.block),
            "scope": record.scope,
            "task": record.task,
            "metrics": record.metrics,
            "seed": record.seed,
            "data": record.data,
            "versions": record.versions,
        },
        "companions": dict(companions),
    }


def matrices_document(plan: Mapping[str, StoragePlan], masks: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """How each matrix is stored, by name; ``dense_bytes`` counts all entries of its mask."""
    return {
        name: {
            "shape": list(choice.shape),
            "kept": choice.kept,
            "stored": choice.stored,
            "format": choice.format,
            "weights": choice.weights,
            "reason": choice.reason,
            "arrays": {
                key: {"dtype": array.dtype.name, "shape": list(array.shape)}
                for key, array in choice.arrays.items()
            },
            "bytes": choice.bytes,
            "dense_bytes": choice.weight.itemsize * masks[name].size,
        }
        for name, choice in plan.items()
    }


def embeddings_document(tables: Mapping[str, Table]) -> dict[str, Any]:
    """How each embedding table is stored, by name."""
    return {
        name: {
            "shape": list(table.shape),
            "weights": table.weights,
            "reason": table.reason,
            "bytes": table.bytes,
            "dense_bytes": table.rounded.nbytes,
        }
        for name, table in tables.items()
    }
