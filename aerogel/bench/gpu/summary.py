"""Summarise the GPU benchmark in Markdown: targets with verdicts, then every case."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aerogel.bench.gpu.case import Case, Target
from aerogel.bench.gpu.results import Results

__all__ = ["markdown", "verdict"]

_HEAD = "| case | kernel | ms | quartiles | speed-up | of copy | of matmul | MB | |"


def verdict(row: dict[str, dict[str, Any]], target: Target) -> tuple[float | None, str]:
    """Return the ratio of a target, and "met", "missed" or the reason why it was not measured."""
    measured, other = row.get(target.kernel, {}), row.get(target.against, {})
    for name, found in ((target.kernel, measured), (target.against, other)):
        if target.quantity not in found:
            return None, f"not measured ({name}: {found.get('error', 'skipped')})"
    ratio = float(other[target.quantity]) / float(measured[target.quantity])
    return ratio, "met" if ratio >= target.at_least else "missed"


def markdown(command: str, results: Results, cases: Sequence[Case]) -> str:
    """Return the whole document; it lists cases that were not measured as such."""
    machine = ", ".join(f"{key} {value}" for key, value in results.machine.items())
    versions = ", ".join(f"{name} {version}" for name, version in results.versions.items() if version)
    lines = ["# GPU", "", f"    {command}", "", f"- {machine}", f"- {versions}"]
    if results.machine.get("dry_run"):
        lines.append("- A dry run in small sizes on the CPU: the numbers do not apply to a GPU.")
    for name, rate in results.roofline.items():
        unit = "GB/s" if name == "copy" else "TFLOP/s"
        lines.append(
            f"- {name}: {rate / (1e9 if name == 'copy' else 1e12):.4g} {unit}, the peak rate of this run"
        )
    lines += ["", "## Targets", "", "| case | target | measured | |", "| --- | --- | ---: | --- |"]
    for case in cases:
        rows = results.cases.get(case.name, {}).get("rows", {})
        for target in case.targets:
            better = "faster" if target.quantity == "ms" else "smaller"
            aim = f"{target.kernel} {target.at_least:g}x {better} than {target.against}"
            ratio, word = verdict(rows, target)
            lines.append(f"| {case.name} | {aim} | {'-' if ratio is None else f'{ratio:.2f}'} | {word} |")
    lines += ["", "## Cases", "", _HEAD, "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |"]
    for case in cases:
        found = results.cases.get(case.name)
        if found is None:
            lines.append(f"| {case.name} | | | | | | | | not measured |")
        elif "error" in found:
            lines.append(f"| {case.name} | | | | | | | | failed: {_cell(found['error'])} |")
        else:
            lines += _rows(case, found["rows"], results.roofline)
    return "\n".join(lines) + "\n"


def _rows(case: Case, rows: dict[str, dict[str, Any]], roofline: dict[str, float]) -> list[str]:
    lines, first = [], next((row["ms"] for row in rows.values() if "ms" in row), None)
    for kernel, row in rows.items():
        if "ms" not in row:
            lines.append(f"| {case.name} | {kernel} | | | | | | | {_cell(row['error'])} |")
            continue
        seconds = row["ms"] / 1e3
        copy = row.get("moved", 0) / seconds / roofline["copy"] if "copy" in roofline else 0
        peak = roofline.get(f"matmul {case.dtype}")
        rate = row.get("operations", 0) / seconds / peak if peak else 0
        lines.append(
            f"| {case.name} | {kernel} | {row['ms']:.4g} | {row['low']:.4g}-{row['high']:.4g} "
            f"| {first / row['ms']:.2f} | {_percent(copy)} | {_percent(rate)} "
            f"| {row['bytes'] / 1e6:.2f} | {'' if row['graph'] else 'no graph'} |"
        )
    return lines


def _percent(value: float) -> str:
    return f"{value:.0%}" if value else ""


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "/").split())[:200]
