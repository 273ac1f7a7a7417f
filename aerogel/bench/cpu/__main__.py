"""The command line of the CPU benchmark."""

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
from aerogel.bench.cpu.run import load_saved, run_configuration
from aerogel.bench.model import OnnxFile
from aerogel.errors import AerogelError, UsageError
from aerogel.system import arguments
from aerogel.system.atomic_io import atomic_file, check_output
from aerogel.system.cores import cores
from aerogel.system.printable import one_line
from aerogel.system.terminal import console, progress

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure all configurations and write results and targets; return 0, or 2 after a failure."""
    parser = argparse.ArgumentParser(
        prog="python -m aerogel.bench.cpu", description="The CPU benchmark, with third-party backends."
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder for models and results"
    )
    parser.add_argument(
        "--quick", action="store_true", help="check in minutes that everything runs: small model, few rounds"
    )
    parser.add_argument(
        "--backends",
        type=arguments.words,
        default=["all"],
        metavar="NAME,...",
        help="third-party backends to measure if they are installed: names, all or none (default: all)",
    )
    parser.add_argument(
        "--configurations",
        type=arguments.words,
        metavar="NAME,...",
        help="measure only these configurations; 'list' lists all",
    )
    parser.add_argument(
        "--rounds", type=int, metavar="N", help="rounds per configuration (default: 10, or 2 with --quick)"
    )
    args = parser.parse_args(argv)
    try:
        return _run(args)
    except AerogelError as error:
        print(f"aerogel: error: {one_line(error)}", file=sys.stderr)
        return 2


def _run(args: argparse.Namespace) -> int:
    out, screen = args.out, console()
    selected = _selected(args)
    if args.configurations == ["list"]:
        for configuration in selected:
            print(f"{configuration.name}: {configuration.title}")
        return 0
    check_output(out / "cpu.md")
    names = {"all": third_party_backends(), "none": []}.get(
        args.backends[0] if args.backends else "none", args.backends
    )
    notes = _unavailable(names)
    for note in notes:
        screen.print(f"note: {note}", soft_wrap=True)
    every = plan.configurations(quick=args.quick, rounds=args.rounds)
    found = {item.name: saved for item in every if (saved := load_saved(item, out))}
    status = 0
    for number, configuration in enumerate(selected, 1):
        title = configuration.title
        screen.print(f"{number} of {len(selected)}: {title}", soft_wrap=True)
        if configuration.settings.threads > cores():
            notes.append(f"{title}: skipped, the machine has {cores()} cores")
            continue
        try:
            with progress() as step:
                found[configuration.name] = run_configuration(
                    configuration, out, names, lambda line: screen.print(line, soft_wrap=True), step
                )
        except AerogelError as error:
            # Measure the other configurations anyway.
            notes.append(f"{title}: failed: {error}")
            print(f"aerogel: error: {title}: {one_line(error)}", file=sys.stderr)
            found.pop(configuration.name, None)
            status = 2
        _write(args, [(item, found[item.name]) for item in every if item.name in found], notes)
    return status


def _selected(args: argparse.Namespace) -> list[plan.Configuration]:
    every = plan.configurations(quick=args.quick, rounds=args.rounds)
    if args.configurations in (None, ["list"]):
        return every
    known = [configuration.name for configuration in every]
    for name in args.configurations:
        if name not in known:
            raise UsageError(f"--configurations {name}: unknown name; known: {', '.join(known)}")
    return [configuration for configuration in every if configuration.name in args.configurations]


def _unavailable(names: Sequence[str]) -> list[str]:
    """One note per reason why third-party backends cannot be measured on this machine."""
    dense = OnnxFile(Path("dense.onnx"), frozenset({""}), 0)
    reasons: dict[str, list[str]] = {}
    for name in names:
        reason = BACKENDS.get(name).refuse(dense)
        if reason is not None:
            reasons.setdefault(reason, []).append(name)
    return [f"{', '.join(found)}: {reason}" for reason, found in reasons.items()]


def _write(
    args: argparse.Namespace,
    found: Sequence[tuple[plan.Configuration, dict[str, Any]]],
    notes: Sequence[str],
) -> None:
    """Write all results so far, so that an interrupted run has them too."""
    if not found:
        return
    reports = {configuration.name: schema.parse(item) for configuration, item in found}
    outcomes = targets.check(reports, [] if args.quick else targets.load())
    by_density = {
        int(match[1]): report
        for name, report in reports.items()
        if (match := re.fullmatch(r"density-([0-9]+)", name))
    }
    lines, dense = summary.curves(by_density)
    command = f"python -m aerogel.bench.cpu {shlex.join(sys.argv[1:])}"
    measured = [(configuration.title, reports[configuration.name]) for configuration, _ in found]
    with atomic_file(args.out / "cpu.md") as file:
        file.write_text(summary.markdown(command, measured, outcomes, lines, dense, notes), encoding="utf-8")
    with atomic_file(args.out / "cpu.json") as file:
        text = json.dumps(schema.document([item for _, item in found]), indent=2, allow_nan=False)
        file.write_text(text + "\n", encoding="utf-8")
    if lines:
        summary.density_plot(lines, dense, args.out / "density.png")
    plot.plot([measured[0][1]], args.out / "latency.png")


if __name__ == "__main__":
    sys.exit(main())
