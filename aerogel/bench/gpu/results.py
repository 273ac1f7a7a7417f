"""results.json: what was measured so far, written after each case and taken up again by the next run."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aerogel.errors import DataError
from aerogel.files import atomic_file

__all__ = ["Results", "load", "save"]

SCHEMA = 1


@dataclass
class Results:
    """What one machine gave.

    Attributes:
        machine: the device and its properties.
        versions: of what was measured with.
        ceilings: see `aerogel.bench.gpu.ceilings`.
        cases: by name, ``{"rows": {way: row}}`` or ``{"error": words}``.
    """

    machine: dict[str, Any]
    versions: dict[str, str | None]
    ceilings: dict[str, float] = field(default_factory=dict)
    cases: dict[str, dict[str, Any]] = field(default_factory=dict)


def load(path: Path, machine: dict[str, Any], versions: dict[str, str | None]) -> Results:
    """What `path` has of this machine and these versions; nothing where it speaks of others or is not there.

    Raises:
        DataError: the file is none of ours.
    """
    fresh = Results(machine, versions)
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document["schema"] != SCHEMA or (document["machine"], document["versions"]) != (machine, versions):
            return fresh
        ceilings, cases = document["ceilings"], document["cases"]
        sound = all(type(value) in (int, float) and value > 0 for value in ceilings.values())
        for case in cases.values():
            rows = case.get("rows", {})
            sound = sound and all("error" in row or float(row["ms"]) > 0 for row in rows.values())
        if not sound:
            raise ValueError("a number is missing")
    except FileNotFoundError:
        return fresh
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(f"{path} is not what this command writes ({error}); move it away") from error
    # What failed is tried again.
    kept = {name: case for name, case in cases.items() if "rows" in case}
    return Results(machine, versions, ceilings, kept)


def save(path: Path, results: Results) -> None:
    """Write all of it, whole or not at all."""
    document = {"schema": SCHEMA, **vars(results)}
    with atomic_file(path) as file:
        file.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n", encoding="utf-8")
