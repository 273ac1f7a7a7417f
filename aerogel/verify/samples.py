"""Compare the outputs of a model with those that its manifest stores."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from aerogel.errors import ArtifactError
from aerogel.model.document import Document
from aerogel.system.json_fields import Each, Number

__all__ = ["compare_samples"]

_MAX = 2**31
_SCHEMA = {
    "tolerance": Number(float, 0, 1),
    "batches": [
        {
            "inputs": Each([[Number(int, -_MAX, _MAX)]]),
            "outputs": Each(
                {
                    "shape": [Number(int, 0, _MAX)],
                    "largest": Number(float, 0),
                    "stride": Number(int, 1, _MAX),
                    "values": [float],
                }
            ),
        }
    ],
}

Run = Callable[[Mapping[str, np.ndarray]], Mapping[str, np.ndarray]]


def compare_samples(manifest: Document, path: Path, run: Run, how: str) -> str:
    """Run the samples of a manifest, and compare the outputs.

    Args:
        manifest: the manifest.
        path: the model, for messages.
        run: gives the outputs of a batch by name.
        how: what runs the model, for messages.

    Returns:
        What was found, in words.

    Raises:
        ArtifactError: the manifest has no samples, or an output is missing, of another shape, or differs.
    """
    samples = manifest.get("samples", _SCHEMA)
    if samples is None or not samples["batches"]:
        raise manifest.error("samples", "inputs with their outputs")
    worst = 0.0
    for number, batch in enumerate(samples["batches"]):
        inputs = {name: _matrix(manifest, name, rows) for name, rows in batch["inputs"].items()}
        outputs = run(inputs)
        for name, stored, found in _pairs(manifest, path, batch["outputs"], outputs, inputs):
            bound = samples["tolerance"] * stored["largest"]
            difference = float(np.abs(found - np.asarray(stored["values"])).max(initial=0.0))
            if not difference <= bound:  # NaN fails too
                raise ArtifactError(
                    f"{path}: output {name} of sample {number} differs from its manifest's by {difference:.3g} {how}, "
                    f"and {bound:.3g} is allowed; export the model again"
                )
            worst = max(worst, difference / stored["largest"] if stored["largest"] else 0.0)
    return (
        f"{len(samples['batches'])} samples agree {how}, largest difference {worst:.1g} of the largest value"
    )


def _matrix(manifest: Document, name: str, rows: list[list[int]]) -> np.ndarray:
    """An input ``[batch, sequence]``, int64."""
    if not rows or not rows[0] or len({len(row) for row in rows}) != 1:
        raise ArtifactError(f"{manifest.path}: samples: input {name} is not a matrix; export the model again")
    return np.array(rows, np.int64)


def _pairs(
    manifest: Document,
    path: Path,
    stored: Mapping[str, Any],
    outputs: Mapping[str, np.ndarray],
    inputs: Mapping[str, np.ndarray],
) -> Iterator[tuple[str, Mapping[str, Any], np.ndarray]]:
    """Each stored output with the values found at its positions."""
    real = inputs.get("attention_mask", np.ones(1)) != 0
    for name, expected in stored.items():
        array = outputs.get(name)
        if array is None or list(array.shape) != expected["shape"]:
            found = "missing" if array is None else f"of shape {list(array.shape)}"
            raise ArtifactError(
                f"{path}: output {name} is {found}, and {expected['shape']} in {manifest.path}; export the model again"
            )
        stride, count = expected["stride"], len(expected["values"])
        for flat in (array.ravel(), array[real].ravel() if array.shape[:2] == real.shape else None):
            if flat is not None and len(range(0, flat.size, stride)) == count:
                yield name, expected, flat[::stride].astype(np.float64)
                break
        else:
            raise ArtifactError(
                f"{manifest.path}: samples: output {name} has {count} values; export the model again"
            )
