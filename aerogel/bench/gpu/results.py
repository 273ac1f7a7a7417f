"""Read and write results.json, which is saved after each case so that the next run can resume."""

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

SCHEMA = 2
_POSITIVE = Number(float, sys.float_info.min)
_RESULTS = {
    "roofline": Each(_POSITIVE),
    "cases": Each({"rows?": Each({"error?": str, "ms?": _POSITIVE}), "error?": str}),
}


@dataclass
class Results:
    """Results of one machine.

    Attributes:
        machine: the device and its properties.
        versions: versions of the packages.
        roofline: see `aerogel.bench.gpu.roofline`.
        cases: results by name of the case: ``{"rows": {kernel: row}}`` or ``{"error": reason}``.
    """

    machine: dict[str, Any]
    versions: dict[str, str | None]
    roofline: dict[str, float] = field(default_factory=dict)
    cases: dict[str, dict[str, Any]] = field(default_factory=dict)


def load(path: Path, machine: dict[str, Any], versions: dict[str, str | None]) -> Results:
    """Read the results of this machine and these versions; return empty results if the file has others or is missing.

    Raises:
        DataError: the file is not a results file.
    """
    fresh = Results(machine, versions)
    try:
        document = read(path, {"schema": int, "machine": dict, "versions": dict})
        if document["schema"] != SCHEMA or (document["machine"], document["versions"]) != (machine, versions):
            return fresh
        check(document, _RESULTS)
        roofline, cases = document["roofline"], document["cases"]
        rows = [row for case in cases.values() for row in case.get("rows", {}).values()]
        if not all("error" in row or "ms" in row for row in rows):
            raise MalformedJsonError("a row has neither ms nor error")
    except FileNotFoundError:
        return fresh
    except (OSError, MalformedJsonError) as error:
        raise DataError(f"{path} is not a results file of this command ({error}); move it away") from error
    # Failed cases are measured again.
    kept = {name: case for name, case in cases.items() if "rows" in case}
    return Results(machine, versions, roofline, kept)


def save(path: Path, results: Results) -> None:
    """Write the results atomically."""
    document = {"schema": SCHEMA, **vars(results)}
    with atomic_file(path) as file:
        file.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n", encoding="utf-8")
