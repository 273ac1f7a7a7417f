"""What was measured on a GPU: how long sparse products take over dense ones.

``python -m aerogel.bench.gpu --tune`` makes a table: a JSON file per device in the folder ``AEROGEL_CACHE``, or else
in the user's cache:

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
# No table has more rows; a larger file is something else.
_MOST_BYTES = 1 << 24
_SIDE = Number(int, 1, (1 << 31) - 1)
_ROW = {
    "format": str, "block": (_SIDE, _SIDE), "dtype": str, "shape": (_SIDE, _SIDE), "tokens": _SIDE,
    "density": Number(float, 0, 1), "ratio": Number(float, sys.float_info.min),
}  # fmt: skip


@dataclass(frozen=True)
class Measured:
    """One product: `ratio` is its time over the dense product's, `density` the share of entries stored."""

    format: str
    block: tuple[int, int]
    dtype: str
    shape: tuple[int, int]
    tokens: int
    density: float
    ratio: float


def table_path(device: str) -> Path:
    """The file of the device of that name."""
    return cache_folder() / f"gpu-{re.sub('[^a-z0-9]+', '-', device.lower()).strip('-')}.json"


def save(path: Path, device: str, rows: Sequence[Measured]) -> None:
    """Write a table, whole or not at all."""
    document = {"schema": SCHEMA, "device": device, "rows": [asdict(row) for row in rows]}
    with atomic_file(path) as file:
        file.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def load(path: Path) -> list[Measured]:
    """The rows of a table; none where there is no such file.

    Raises:
        FormatError: the file is no table.
    """
    try:
        document = read(path, {"schema": int, "rows": list}, _MOST_BYTES)
        if document["schema"] != SCHEMA:
            raise MalformedJsonError(f"schema {document['schema']}, not {SCHEMA}")
        return [_row(entry) for entry in check(document["rows"], [_ROW], "rows")]
    except FileNotFoundError:
        return []
    except (OSError, MalformedJsonError) as error:
        raise FormatError(
            f"{path} is no table of measurements ({error}); delete it, or measure again with "
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
    """Time over dense of such a product, from the measurements nearest to it; None where nothing like it was measured.

    The nearest shape and number of tokens count, by ratios; between two densities the ratio is interpolated. A density
    above all measured has none; below, the lowest one's holds.
    """
    alike = [row for row in rows if (row.format, row.block, row.dtype) == (format, block, dtype)]
    if not alike:
        return None

    def distance(row: Measured) -> float:
        pairs = zip((*row.shape, row.tokens), (*shape, tokens), strict=True)
        return sum(abs(math.log(a / b)) for a, b in pairs)

    nearest = min(map(distance, alike))
    curve = sorted((row.density, row.ratio) for row in alike if distance(row) == nearest)
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
