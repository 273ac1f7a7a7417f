"""Calibrations on disk: one JSON file per machine, library and number of threads, in the user's cache directory."""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from datetime import datetime
from pathlib import Path
from typing import Any

from aerogel.cost.grid import kinds
from aerogel.cost.machine import Machine, this_machine
from aerogel.cost.model import RESTS, SHARES, CostModel, EncoderShape, rest_features, token_counts
from aerogel.errors import AerogelError
from aerogel.system.atomic_io import atomic_file
from aerogel.system.cache import cache_folder
from aerogel.system.json_fields import MalformedJsonError, Number, check, read

__all__ = ["SCHEMA", "find", "save"]

SCHEMA = 1
# No cost of one unit of work comes near so many seconds.
_COST = Number(float, 0, 1e3)


def path_of(host: Machine) -> Path:
    """Where the calibration of a host is kept."""
    return cache_folder() / f"calibration-{host.key}.json"


def save(calibration: CostModel) -> Path:
    """Keep a calibration, in place of an earlier one of the same host; returns the file.

    Raises:
        OutputError: it cannot be written.
    """
    path = path_of(calibration.host)
    with atomic_file(path) as file:
        document = {"schema": SCHEMA, **asdict(calibration)}
        file.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return path


def find(threads: int = 1) -> CostModel | str:
    """The calibration of this machine with `threads` threads, or in words why there is none.

    A file that is damaged, or speaks of another machine, is as good as none.
    """
    remedy = f"run `aerogel calibrate{'' if threads == 1 else f' --threads {threads}'}`"
    try:
        host = this_machine(threads)
    except AerogelError as error:
        return str(error)
    path = path_of(host)
    if not path.is_file():
        return f"this machine has no calibration for {threads} thread{'s' * (threads != 1)}; {remedy}"
    try:
        return _parse(read(path), host)
    except (OSError, ValueError) as error:
        return f"{path} is damaged or foreign and ignored ({' '.join(str(error).split())}); {remedy}"


def _parse(found: Any, host: Machine) -> CostModel:
    """A calibration from its document, of which nothing is believed.

    Raises:
        ValueError: it is malformed, or of another host.
    """
    names = [kind.name for kind in kinds()]
    counts = len(token_counts(host.width))
    products = _table(counts, 5 + len(SHARES))
    rest = (_COST,) * len(rest_features(EncoderShape(1, 1, 1, 1), 1, 1))
    schema = {
        "schema": int, "host": dict, "time": str,
        "near": dict.fromkeys(names, products), "far": dict.fromkeys(names, products),
        "dense": _table(counts, 4), "rest": dict.fromkeys(RESTS, rest),
    }  # fmt: skip
    check(found, {"schema": int, "host": dict})
    if found["schema"] != SCHEMA:
        raise MalformedJsonError(f"schema {found['schema']!r}")
    if surplus := found.keys() - {"schema"} - {field.name for field in fields(CostModel)}:
        raise MalformedJsonError(f"unknown key {min(surplus)!r}")
    if found["host"] != asdict(host):
        raise MalformedJsonError("it is of another host")
    check(found, schema)
    datetime.fromisoformat(found["time"])
    return CostModel(
        host=host,
        time=found["time"],
        near={name: found["near"][name] for name in names},
        far={name: found["far"][name] for name in names},
        dense=found["dense"],
        rest={name: found["rest"][name] for name in RESTS},
    )


def _table(rows: int, columns: int) -> tuple[Any, ...]:
    """The schema of costs ``[rows, columns]``."""
    return ((_COST,) * columns,) * rows
