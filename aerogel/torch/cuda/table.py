"""Measurements of a GPU: times of sparse products over dense ones.

``python -m aerogel.bench.gpu --tune`` writes the table, one JSON file per device, in the directory ``AEROGEL_CACHE``
or, if that is not set, in the user's cache:

    {"schema": 1, "device": "NVIDIA H200", "rows": [{"format": "bsr", "block": [32, 32], "dtype": "float16",
     "shape": [3072, 768], "tokens": 4096, "density": 0.1, "ratio": 0.31}, ...]}
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from aerogel.errors import FormatError
from aerogel.system.atomic_io import atomic_file
from aerogel.system.cache import cache_folder
from aerogel.system.json_fields import MalformedJsonError, Number, check, read

__all__ = ["Measured", "load", "predict", "save", "table_path"]

SCHEMA = 1
# A larger file is not a table.
_MAX_BYTES = 1 << 24
_SIDE = Number(int, 1, (1 << 31) - 1)
_ROW = {
    "format": str, "block": (_SIDE, _SIDE), "dtype": str, "shape": (_SIDE, _SIDE), "tokens": _SIDE,
    "density": Number(float, 0, 1), "ratio": Number(float, sys.float_info.min),
}  # fmt: skip


@dataclass(frozen=True)
class Measured:
    """One measured product.

    Attributes:
        format: name of the storage format.
        block: (rows, cols) of the stored blocks.
        dtype: dtype of the weights, such as "float16".
        shape: (out_features, in_features).
        tokens: rows of x.
        density: stored fraction.
        ratio: time over the time of the dense product.
    """

    format: str
    block: tuple[int, int]
    dtype: str
    shape: tuple[int, int]
    tokens: int
    density: float
    ratio: float


def table_path(device: str) -> Path:
    """Return the path of the table of this device."""
    return cache_folder() / f"gpu-{re.sub('[^a-z0-9]+', '-', device.lower()).strip('-')}.json"


def save(path: Path, device: str, rows: Sequence[Measured]) -> None:
    """Write a table atomically."""
    document = {"schema": SCHEMA, "device": device, "rows": [asdict(row) for row in rows]}
    with atomic_file(path) as file:
        file.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def load(path: Path) -> list[Measured]:
    """Read the rows of a table; an empty list if the file does not exist.

    Raises:
        FormatError: the file is not a valid table.
    """
    try:
        document = read(path, {"schema": int, "rows": list}, _MAX_BYTES)
        if document["schema"] != SCHEMA:
            raise MalformedJsonError(f"schema {document['schema']}, not {SCHEMA}")
        return [_row(entry) for entry in check(document["rows"], [_ROW], "rows")]
    except FileNotFoundError:
        return []
    except (OSError, MalformedJsonError) as error:
        raise FormatError(
            f"cannot read {path} as a table of measurements ({error}); delete it, or measure again with "
            "python -m aerogel.bench.gpu --tune"
        ) from error


def predict(
    rows: Sequence[Measured],
    format: str,
    block: tuple[int, int],
    dtype: str,
    shape: tuple[int, int],
    tokens: int,
    density: float,
) -> float | None:
    """Predict the time of a product over the dense time from the nearest measurements.

    Uses the measured shape and number of tokens with the smallest sum of absolute log-ratios, and interpolates between
    two densities. Below the lowest measured density, its ratio is used.

    Returns:
        The ratio; None above the highest measured density, or if this format, block and dtype were not measured.
    """
    matching = [row for row in rows if (row.format, row.block, row.dtype) == (format, block, dtype)]
    if not matching:
        return None

    def distance(row: Measured) -> float:
        pairs = zip((*row.shape, row.tokens), (*shape, tokens), strict=True)
        return sum(abs(math.log(a / b)) for a, b in pairs)

    nearest = min(map(distance, matching))
    curve = sorted((row.density, row.ratio) for row in matching if distance(row) == nearest)
    if density > curve[-1][0]:
        return None
    below = [point for point in curve if point[0] <= density]
    above = next(point for point in curve if point[0] >= density)
    if not below or below[-1][0] == above[0]:
        return above[1]
    (d0, r0), (d1, r1) = below[-1], above
    return r0 + (r1 - r0) * (density - d0) / (d1 - d0)


def _row(entry: dict[str, Any]) -> Measured:
    if unknown := sorted(entry.keys() - _ROW.keys()):
        raise MalformedJsonError(f"unknown field {unknown[0]!r}")
    return Measured(**{**entry, "block": tuple(entry["block"]), "shape": tuple(entry["shape"])})
