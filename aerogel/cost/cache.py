"""Cost models on disk: one JSON file per machine, library and number of threads, in the user's cache directory."""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from datetime import datetime
from pathlib import Path
from typing import Any

from aerogel.cost.grid import packed_kernels
from aerogel.cost.machine import Machine, this_machine
from aerogel.cost.model import (
    NON_GEMM_VARIANTS,
    SLOT_FRACTIONS,
    CostModel,
    EncoderShape,
    non_gemm_features,
    token_counts,
)
from aerogel.errors import AerogelError
from aerogel.system.atomic_io import atomic_file
from aerogel.system.cache import cache_folder
from aerogel.system.json_fields import MalformedJsonError, Number, check, read

__all__ = ["SCHEMA", "find", "save"]

SCHEMA = 2
# Seconds. Real costs are below a second; a larger value means a damaged file.
_COST = Number(float, 0, 1e3)


def path_of(machine: Machine) -> Path:
    """File of the cost model of `machine`."""
    return cache_folder() / f"calibration-{machine.key}.json"


def save(cost_model: CostModel) -> Path:
    """Write a cost model, replacing an earlier one of the same machine; returns the file.

    Raises:
        OutputError: the file cannot be written.
    """
    path = path_of(cost_model.machine)
    with atomic_file(path) as file:
        document = {"schema": SCHEMA, **asdict(cost_model)}
        file.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return path


def find(threads: int = 1) -> CostModel | str:
    """Read the cost model of this machine with `threads` threads.

    Returns:
        The cost model, or a one-line reason for its absence. A damaged file, or one of another machine, is ignored
        and the reason names it.
    """
    remedy = f"run `aerogel calibrate{'' if threads == 1 else f' --threads {threads}'}`"
    try:
        machine = this_machine(threads)
    except AerogelError as error:
        return str(error)
    path = path_of(machine)
    if not path.is_file():
        return f"this machine has no calibration for {threads} thread{'s' * (threads != 1)}; {remedy}"
    try:
        return _parse(read(path), machine)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        return f"{path} is damaged or from another machine and was ignored ({reason}); {remedy}"


def _parse(document: Any, machine: Machine) -> CostModel:
    """Parse and validate a cost-model file; the file is untrusted.

    Raises:
        ValueError: the document is malformed or describes another machine.
    """
    kernels = [kernel.name for kernel in packed_kernels()]
    counts = len(token_counts(machine.vector_width))
    packed = _table(counts, 5 + len(SLOT_FRACTIONS))
    non_gemm = (_COST,) * len(non_gemm_features(EncoderShape(1, 1, 1, 1), 1, 1))
    schema = {
        "schema": int, "machine": dict, "time": str,
        "cache_resident": dict.fromkeys(kernels, packed), "dram_resident": dict.fromkeys(kernels, packed),
        "dense": _table(counts, 4), "non_gemm": dict.fromkeys(NON_GEMM_VARIANTS, non_gemm),
    }  # fmt: skip
    check(document, {"schema": int})
    if document["schema"] != SCHEMA:
        raise MalformedJsonError(f"it has schema {document['schema']}, and this version reads {SCHEMA}")
    check(document, {"machine": dict})
    if unknown := document.keys() - {"schema"} - {field.name for field in fields(CostModel)}:
        raise MalformedJsonError(f"unknown key {min(unknown)!r}")
    if document["machine"] != asdict(machine):
        raise MalformedJsonError("it describes another machine")
    check(document, schema)
    datetime.fromisoformat(document["time"])
    return CostModel(
        machine=machine,
        time=document["time"],
        cache_resident={name: document["cache_resident"][name] for name in kernels},
        dram_resident={name: document["dram_resident"][name] for name in kernels},
        dense=document["dense"],
        non_gemm={name: document["non_gemm"][name] for name in NON_GEMM_VARIANTS},
    )


def _table(rows: int, columns: int) -> tuple[Any, ...]:
    """Schema of a table of costs ``[rows, columns]``."""
    return ((_COST,) * columns,) * rows
