"""Calibrations on disk: one JSON file per machine, library and number of threads, in the user's cache directory."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict, fields
from datetime import datetime
from pathlib import Path
from typing import Any

from aerogel.calibration.grid import kinds
from aerogel.calibration.host import Host, this_host
from aerogel.calibration.model import RESTS, SHARES, Calibration, EncoderShape, rest_features, token_counts
from aerogel.errors import AerogelError
from aerogel.files import atomic_file

__all__ = ["CACHE_VARIABLE", "SCHEMA", "find", "folder", "save"]

CACHE_VARIABLE = "AEROGEL_CACHE"
SCHEMA = 1
_MOST_SECONDS = 1e3  # what no cost of one unit of work comes near


def folder() -> Path:
    """Where calibrations are kept: AEROGEL_CACHE, or the user's cache directory."""
    if chosen := os.environ.get(CACHE_VARIABLE):
        return Path(chosen)
    if home := os.environ.get("XDG_CACHE_HOME"):
        return Path(home) / "aerogel"
    if sys.platform == "win32" and (local := os.environ.get("LOCALAPPDATA")):
        return Path(local) / "aerogel"
    return Path.home() / ("Library/Caches" if sys.platform == "darwin" else ".cache") / "aerogel"


def path_of(host: Host) -> Path:
    """Where the calibration of a host is kept."""
    return folder() / f"calibration-{host.key}.json"


def save(calibration: Calibration) -> Path:
    """Keep a calibration, in place of an earlier one of the same host; returns the file.

    Raises:
        OutputError: it cannot be written.
    """
    path = path_of(calibration.host)
    with atomic_file(path) as file:
        document = {"schema": SCHEMA, **asdict(calibration)}
        file.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return path


def find(threads: int = 1) -> Calibration | str:
    """The calibration of this machine with `threads` threads, or in words why there is none.

    A file that is damaged, or speaks of another machine, is as good as none.
    """
    remedy = f"run `aerogel calibrate{'' if threads == 1 else f' --threads {threads}'}`"
    try:
        host = this_host(threads)
    except AerogelError as error:
        return str(error)
    path = path_of(host)
    if not path.is_file():
        return f"this machine has no calibration for {threads} thread{'s' * (threads != 1)}; {remedy}"
    try:
        return _parse(json.loads(path.read_text(encoding="utf-8")), host)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        return f"{path} is damaged or foreign and ignored ({' '.join(str(error).split())}); {remedy}"


def _parse(found: Any, host: Host) -> Calibration:
    """A calibration from its document, of which nothing is believed."""
    if found["schema"] != SCHEMA:
        raise ValueError(f"schema {found['schema']!r}")
    if surplus := found.keys() - {"schema"} - {field.name for field in fields(Calibration)}:
        raise ValueError(f"unknown key {min(surplus)!r}")
    if found["host"] != asdict(host):
        raise ValueError("it is of another host")
    datetime.fromisoformat(found["time"])
    counts = len(token_counts(host.width))
    names = [kind.name for kind in kinds()]
    products = (counts, 5 + len(SHARES))
    return Calibration(
        host=host,
        time=found["time"],
        near={name: _table(found["near"][name], products) for name in names},
        far={name: _table(found["far"][name], products) for name in names},
        dense=_table(found["dense"], (counts, 4)),
        rest={
            name: _table([found["rest"][name]], (1, len(rest_features(EncoderShape(1, 1, 1, 1), 1, 1))))[0]
            for name in RESTS
        },
    )


def _table(found: Any, shape: tuple[int, int]) -> list[list[float]]:
    """Costs ``[shape]``, each a finite number that can be meant."""
    if not isinstance(found, list) or len(found) != shape[0]:
        raise ValueError(f"a table has not {shape[0]} rows")
    for row in found:
        if not isinstance(row, list) or len(row) != shape[1]:
            raise ValueError(f"a table has not {shape[1]} columns")
        for cost in row:
            if type(cost) not in (int, float) or not 0 <= cost < _MOST_SECONDS:  # NaN is neither
                raise ValueError(f"{str(cost)[:40]} is no cost")
    return found
