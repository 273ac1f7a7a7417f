"""The manifest beside an artifact: what it is, what it was made from, and how far it was verified."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aerogel import __version__
from aerogel.export.embeddings import Table
from aerogel.export.output_dir import companions
from aerogel.export.plan import StoragePlan
from aerogel.export.reference_model import TOLERANCE
from aerogel.system.atomic_io import sha256

if TYPE_CHECKING:
    import numpy as np

    from aerogel.export.prepare import Prepared

__all__ = ["SCHEMA", "embeddings_document", "manifest", "matrices_document"]

SCHEMA = 1


def manifest(
    prepared: Prepared,
    artifact: Path,
    details: dict[str, Any],
    parity: dict[str, Any],
    served: Mapping[str, bytes],
) -> dict[str, Any]:
    """Assemble the manifest; every value is plain JSON. Sizes are in bytes, densities are fractions.

    Args:
        prepared: the export before it was written.
        artifact: the file that was written.
        details: what the target, the head and the evaluation add.
        parity: comparisons by runner.
        served: contents of companions that are not plain copies, by file name.
    """
    config, subject = prepared.config, prepared.subject
    record, accounting = subject.record, subject.accounting
    return {
        "schema": SCHEMA,
        "aerogel": __version__,
        "target": config.target,
        "file": config.out.name,
        "bytes": artifact.stat().st_size,
        "sha256": sha256(artifact),
        **details,
        "max_length": prepared.reference.max_length,
        "format": config.format,
        "weights": config.weights,
        "matrices": matrices_document(prepared.plan, subject.masks),
        "removed": asdict(prepared.removed) if prepared.removed else None,
        "embeddings": embeddings_document(prepared.tables),
        "prediction": prepared.prediction,
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
        "companions": {
            file.name: hashlib.sha256(served[file.name]).hexdigest() if file.name in served else sha256(file)
            for file in companions(subject.path)
        },
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
