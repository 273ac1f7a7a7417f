"""Measure the table from which `aerogel.torch` chooses kernels: time over dense, by shape, tokens and density."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from aerogel.bench.gpu.case import Case
from aerogel.torch.cuda.table import Measured

__all__ = ["rows", "tuning_cases"]

_SHAPES = ((768, 768), (3072, 768), (768, 3072), (1024, 1024), (4096, 1024), (1024, 4096), (4096, 4096))
_TOKENS = (4096, 1, 32, 512, 16384)
_DENSITIES = (0.05, 0.1, 0.2, 0.35, 0.5)
_FORMATS = (("bsr", (32, 32)), ("bsr", (64, 64)), ("bsr", (16, 16)), ("packed", (1, 1)), ("csr", (1, 1)))
_PREFIX = "aerogel-"


def tuning_cases() -> list[Case]:
    """Return the benchmark cases of the table, in half precision, the most common first."""
    return [
        Case(
            f"tune {format} {block[0]}x{block[1]} {shape[0]}x{shape[1]} {tokens} {density}", "product",
            ("dense", _PREFIX + format), shape, block, density, "float16", tokens,
        )
        for tokens in _TOKENS for format, block in _FORMATS for shape in _SHAPES for density in _DENSITIES
    ]  # fmt: skip


def rows(cases: dict[str, Case], found: dict[str, dict[str, Any]]) -> Iterator[Measured]:
    """Yield the rows of the table, from the cases that were measured."""
    for name, result in found.items():
        case, measured = cases.get(name), result.get("rows", {})
        if case is None or not all("ms" in measured.get(kernel, {}) for kernel in case.kernels):
            continue
        dense, sparse = (measured[kernel]["ms"] for kernel in case.kernels)
        format = case.kernels[1].removeprefix(_PREFIX)
        yield Measured(format, case.block, case.dtype, case.shape, case.tokens, case.density, sparse / dense)
