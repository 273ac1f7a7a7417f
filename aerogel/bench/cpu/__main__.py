"""The command line of the CPU measurement."""

from __future__ import annotations

import argparse
import json
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aerogel.bench import plot, schema
from aerogel.bench.backends import BACKENDS, third_party_backends
from aerogel.bench.cpu import plan, summary, targets
from aerogel.bench.cpu.run import kept, run_point
from aerogel.bench.model import OnnxFile
from aerogel.errors import AerogelError, UsageError
from aerogel.system import arguments
from aerogel.system.atomic_io import atomic_file, check_output
from aerogel.system.cores import cores
from aerogel.system.printable import one_line
from aerogel.system.terminal import console, progress

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure all points, write results and say which targets were met; 0 done, 2 if something failed."""
    parser = argparse.ArgumentParser(
        prog="python -m aerogel.bench.cpu", description="The measurement of CPUs, rivals included."
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder for models and results"
    )
    parser.add_argument(
        "--quick", action="store_true", help="a small model and few points: to see that everything runs"
    )
    parser.add_argument(
        "--backends",
        type=arguments.words,
        default=["all"],
        metavar="NAME,...",
        help="other runtimes to measure where they are installed (default: all; none: none)",
    )
    parser.add_argument(
        "--points",
        type=arguments.words,
        metavar="NAME,...",
        help="only these points; --points list shows all",
    )
    parser.add_argument("--rounds", type=int, metavar="N", help="turns of each candidate")
    args = parser.parse_args(argv)
    try:
        return _run(args)
    except AerogelError as error:
        print(f"aerogel: error: {one_line(error)}", file=sys.stderr)
        return 2


def _run(args: argparse.Namespace) -> int:
    out, screen = args.out, console()
    chosen = _chosen(args)
    if args.points == ["list"]:
        for point in chosen:
            print(f"{point.name}: {point.what}")
        return 0
    check_output(out / "cpu.md")
    names = {"all": third_party_backends(), "none": []}.get(
        args.backends[0] if args.backends else "none", args.backends
    )
    notes = _missing(names)
    for note in notes:
        screen.print(f"note: {note}", soft_wrap=True)
    every = plan.points(quick=args.quick, rounds=args.rounds)
    found = {point.name: item for point in every if (item := kept(point, out))}
    status = 0
    for number, point in enumerate(chosen, 1):
        screen.print(f"{number} of {len(chosen)}: {point.what}", soft_wrap=True)
        if point.settings.threads > cores():
            notes.append(f"{point.what}: left out, there are {cores()} cores")
            continue
        try:
            with progress() as step:
                found[point.name] = run_point(
                    point, out, names, lambda line: screen.print(line, soft_wrap=True), step
                )
        except AerogelError as error:
            # The other points are worth having.
            notes.append(f"{point.what}: failed: {error}")
            print(f"aerogel: error: {point.what}: {one_line(error)}", file=sys.stderr)
            found.pop(point.name, None)
            status = 2
        _write(args, [(point, found[point.name]) for point in every if point.name in found], notes)
    return status


def _chosen(args: argparse.Namespace) -> list[plan.Point]:
    points = plan.points(quick=args.quick, rounds=args.rounds)
    if args.points in (None, ["list"]):
        return points
    known = [point.name for point in points]
    for name in args.points:
        if name not in known:
            raise UsageError(f"--points {name} is unknown; known: {', '.join(known)}")
    return [point for point in points if point.name in args.points]


def _missing(names: Sequence[str]) -> list[str]:
    """Which of the rivals cannot be measured here, each mend once."""
    plain = OnnxFile(Path("dense.onnx"), frozenset({""}), 0)
    reasons: dict[str, list[str]] = {}
    for name in names:
        reason = BACKENDS.get(name).refuse(plain)
        if reason is not None:
            reasons.setdefault(reason, []).append(name)
    return [f"{', '.join(found)}: {reason}" for reason, found in reasons.items()]


def _write(
    args: argparse.Namespace, found: Sequence[tuple[plan.Point, dict[str, Any]]], notes: Sequence[str]
) -> None:
    """Everything known so far, so that a run that is stopped has results too."""
    if not found:
        return
    reports = {point.name: schema.parse(item) for point, item in found}
    outcomes = targets.check(reports, [] if args.quick else targets.load())
    by_density = {
        int(match[1]): report
        for name, report in reports.items()
        if (match := re.fullmatch(r"density-([0-9]+)", name))
    }
    lines, dense = summary.curves(by_density)
    command = f"python -m aerogel.bench.cpu {shlex.join(sys.argv[1:])}"
    measured = [(point.what, reports[point.name]) for point, _ in found]
    with atomic_file(args.out / "cpu.md") as file:
        file.write_text(summary.markdown(command, measured, outcomes, lines, dense, notes), encoding="utf-8")
    with atomic_file(args.out / "cpu.json") as file:
        text = json.dumps(schema.document([item for _, item in found]), indent=2, allow_nan=False)
        file.write_text(text + "\n", encoding="utf-8")
    if lines:
        summary.density_plot(lines, dense, args.out / "density.png")
    first = measured[0][1]
    plot.plot([first], args.out / "latency.png")


if __name__ == "__main__":
    sys.exit(main())
