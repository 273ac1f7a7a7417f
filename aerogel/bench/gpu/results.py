"""results.json: what was measured so far, written after each case and taken up again by the next run."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aerogel.errors import DataError
from aerogel.system.atomic_io import atomic_file
from aerogel.system.json_fields import Each, MalformedJsonError, Number, check, read

__all__ = ["Results", "load", "save"]

SCHEMA = 1
_POSITIVE = Number(float, sys.float_info.min)
_RESULTS = {
    "ceilings": Each(_POSITIVE),
    "cases": Each({"rows?": Each({"error?": str, "ms?": _POSITIVE}), "error?": str}),
}


@dataclass
class Results:
    """What one machine gave.

    Attributes:
        machine: the device and its properties.
        versions: of what was measured with.
        ceilings: see `aerogel.bench.gpu.roofline`.
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
        document = read(path, {"schema": int, "machine": dict, "versions": dict})
        if document["schema"] != SCHEMA or (document["machine"], document["versions"]) != (machine, versions):
            return fresh
        check(document, _RESULTS)
        ceilings, cases = document["ceilings"], document["cases"]
        rows = [row for case in cases.values() for row in case.get("rows", {}).values()]
        if not all("error" in row or "ms" in row for row in rows):
            raise MalformedJsonError("a row has neither ms nor error")
    except FileNotFoundError:
        return fresh
    except (OSError, MalformedJsonError) as error:
        raise DataError(f"{path} is not what this command writes ({error}); move it away") from error
    # What failed is tried again.
    kept = {name: case for name, case in cases.items() if "rows" in case}
    return Results(machine, versions, ceilings, kept)


def save(path: Path, results: Results) -> None:
    """Write all of it, whole or not at all."""
    document = {"schema": SCHEMA, **vars(results)}
    with atomic_file(path) as file:
        file.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n", encoding="utf-8")
