"""The measurement in Markdown: targets with verdicts, then every case."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aerogel.bench.gpu.case import Case, Target
from aerogel.bench.gpu.results import Results

__all__ = ["markdown", "verdict"]

_HEAD = "| case | way | ms | quartiles | over the first | of copy | of matmul | MB | |"


def verdict(row: dict[str, dict[str, Any]], target: Target) -> tuple[float | None, str]:
    """How many times better than `against` it is, and "met", "missed" or why that is not known."""
    ours, theirs = row.get(target.ours, {}), row.get(target.against, {})
    for name, found in ((target.ours, ours), (target.against, theirs)):
        if target.quantity not in found:
            return None, f"not measured ({name}: {found.get('error', 'left out')})"
    ratio = float(theirs[target.quantity]) / float(ours[target.quantity])
    return ratio, "met" if ratio >= target.at_least else "missed"


def markdown(command: str, results: Results, cases: Sequence[Case]) -> str:
    """The whole document; cases that were not reached are listed as such."""
    machine = ", ".join(f"{key} {value}" for key, value in results.machine.items())
    versions = ", ".join(f"{name} {version}" for name, version in results.versions.items() if version)
    lines = ["# GPU", "", f"    {command}", "", f"- {machine}", f"- {versions}"]
    if results.machine.get("dry_run"):
        lines.append("- A dry run in small sizes on the CPU: no number here says anything of a GPU.")
    for name, rate in results.ceilings.items():
        unit = "GB/s" if name == "copy" else "TFLOP/s"
        lines.append(
            f"- {name}: {rate / (1e9 if name == 'copy' else 1e12):.4g} {unit}, the ceiling of this run"
        )
    lines += ["", "## Targets", "", "| case | aim | found | |", "| --- | --- | ---: | --- |"]
    for case in cases:
        rows = results.cases.get(case.name, {}).get("rows", {})
        for target in case.targets:
            what = "time" if target.quantity == "ms" else target.quantity
            aim = f"{target.ours} {target.at_least:g}x better than {target.against} in {what}"
            ratio, word = verdict(rows, target)
            lines.append(f"| {case.name} | {aim} | {'-' if ratio is None else f'{ratio:.2f}'} | {word} |")
    lines += ["", "## Cases", "", _HEAD, "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |"]
    for case in cases:
        found = results.cases.get(case.name)
        if found is None:
            lines.append(f"| {case.name} | | | | | | | | not reached |")
        elif "error" in found:
            lines.append(f"| {case.name} | | | | | | | | failed: {_cell(found['error'])} |")
        else:
            lines += _rows(case, found["rows"], results.ceilings)
    return "\n".join(lines) + "\n"


def _rows(case: Case, rows: dict[str, dict[str, Any]], ceilings: dict[str, float]) -> list[str]:
    lines, first = [], next((row["ms"] for row in rows.values() if "ms" in row), None)
    for way, row in rows.items():
        if "ms" not in row:
            lines.append(f"| {case.name} | {way} | | | | | | | {_cell(row['error'])} |")
            continue
        seconds = row["ms"] / 1e3
        copy = row.get("moved", 0) / seconds / ceilings["copy"] if "copy" in ceilings else 0
        peak = ceilings.get(f"matmul {case.dtype}")
        rate = row.get("operations", 0) / seconds / peak if peak else 0
        lines.append(
            f"| {case.name} | {way} | {row['ms']:.4g} | {row['low']:.4g}-{row['high']:.4g} | {first / row['ms']:.2f} "
            f"| {_share(copy)} | {_share(rate)} | {row['bytes'] / 1e6:.2f} | {'' if row['graph'] else 'no graph'} |"
        )
    return lines


def _share(value: float) -> str:
    return f"{value:.0%}" if value else ""


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "/").split())[:200]
