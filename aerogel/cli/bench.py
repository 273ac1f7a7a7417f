"""`aerogel bench`: latency and memory of exported models against a dense baseline and other backends."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aerogel.bench.arguments import add_measurement_arguments, settings
from aerogel.system import arguments

if TYPE_CHECKING:
    from aerogel.bench.result import Settings
    from aerogel.bench.setup import Progress

HELP = "measure exported models against a dense baseline and other backends"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    add_measurement_arguments(parser)
    parser.add_argument(
        "--json", type=arguments.output, metavar="FILE", help="write all measurements to FILE"
    )
    parser.add_argument(
        "--resume",
        action="store_true",
        help="reuse measurements in the --json file of the same configurations, models and versions",
    )
    parser.add_argument(
        "--markdown", type=arguments.output, metavar="FILE", help="write the tables to FILE in Markdown"
    )
    parser.add_argument(
        "--plot", type=arguments.output, metavar="FILE.png", help="plot latency and memory to FILE.png"
    )


def run(args: argparse.Namespace) -> int:
    """Measure, print the tables, write the requested files; 1 if the outputs of a backend were wrong."""
    from aerogel.bench import plot, report, schema
    from aerogel.errors import UsageError
    from aerogel.system.atomic_io import atomic_file, check_output
    from aerogel.system.terminal import console, progress

    points = settings(args)
    _check_outputs(args)
    if args.device == "cuda":
        return _on_gpu(args, points)
    if args.plot:
        plot.check(args.plot)
    for output in filter(None, (args.json, args.markdown, args.plot)):
        check_output(output)
    if args.resume and not args.json:
        raise UsageError("--resume reads the --json file; give --json too")
    known = schema.load(args.json) if args.resume else []
    measured: list[dict[str, Any]] = []
    errors = console(stderr=True)
    for number, point in enumerate(points):
        with progress() as step:
            if len(points) > 1:
                step("configurations", number, len(points))
            measured.append(_point(args, point, known, step))
        found = schema.parse(measured[-1])
        console().print(report.table(found))
        for note in report.notes(found):
            errors.print(f"note: {note}")
        for warning in found.warnings:
            errors.print(f"warning: {warning}")
        if args.json:
            with atomic_file(args.json) as file:
                text = json.dumps(schema.document(measured), indent=2, allow_nan=False)
                file.write_text(text + "\n", encoding="utf-8")
    reports = [schema.parse(item) for item in measured]
    if args.markdown:
        with atomic_file(args.markdown) as file:
            file.write_text("\n".join(map(report.markdown, reports)), encoding="utf-8")
    if args.plot:
        plot.plot(reports, args.plot)
    return 0 if all(item.correct for found in reports for item in found.runs) else 1


def _point(
    args: argparse.Namespace, point: Settings, known: list[dict[str, Any]], step: Progress
) -> dict[str, Any]:
    """One configuration: measured, or taken from `known`."""
    from aerogel.bench import schema
    from aerogel.bench.backends import BACKENDS, third_party_backends
    from aerogel.bench.harness import bench
    from aerogel.bench.jobs import scan_all

    names = third_party_backends() if args.backends == ["all"] else args.backends
    files = scan_all([args.baseline, *args.models] if args.baseline else args.models)
    pythons = [f"{name} {BACKENDS.get(name).python()}" for name in names]
    mark = schema.identity([file.path for file in files], point, [str(args.baseline), *pythons])
    for item in known:
        if item["identity"] == mark:
            return item
    report = bench(args.models, point, args.baseline, third_party=names, progress=step)
    return schema.encode(report, mark)


def _on_gpu(args: argparse.Namespace, points: list[Settings]) -> int:
    """Measure all configurations and models in PyTorch on a GPU; 1 if a mode failed or was wrong."""
    from aerogel.errors import UsageError, require
    from aerogel.system.atomic_io import atomic_file, check_output
    from aerogel.system.printable import escaped

    for flag in ("baseline", "backends", "lengths", "plot", "resume"):
        if getattr(args, flag):
            raise UsageError(
                f"--{flag} has no effect with --device cuda, which compares with dense PyTorch; remove it"
            )
    require("torch", "gpu")
    from aerogel.bench.gpu.model import measure_model, table

    for output in filter(None, (args.json, args.markdown)):
        check_output(output)
    found: list[dict[str, Any]] = []
    texts: list[str] = []
    for point in points:
        for model in args.models:
            rows = measure_model(model, point.batch, point.seq, args.dtype, point.seed)
            title = f"{model}, {args.dtype}, batch {point.batch}, sequence {point.seq}"
            found.append({"title": title, "rows": rows})
            texts.append(table(title, rows, "dense"))
            print(escaped(texts[-1]))
    if args.json:
        with atomic_file(args.json) as file:
            file.write_text(json.dumps(found, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    if args.markdown:
        with atomic_file(args.markdown) as file:
            file.write_text("\n".join(texts), encoding="utf-8")
    return 0 if all("ms" in row for item in found for row in item["rows"].values()) else 1


def _check_outputs(args: argparse.Namespace) -> None:
    """Check that no output would overwrite a model, its manifest or weights, or another output."""
    from aerogel.bench.model import external_data
    from aerogel.system.overlap import check_outputs_distinct

    taken = {f"the model {model}": model for model in args.models}
    if args.baseline:
        taken["the --baseline model"] = args.baseline
    if args.lengths is not None:
        taken["the --lengths file"] = Path(args.lengths)
    for what, model in list(taken.items()):
        if model.name and what != "the --lengths file":  # without a name, the path is rejected later
            taken[f"the manifest of {what}"] = model.with_suffix(".manifest.json")
            taken |= {f"the weights {file.name} of {what}": file for file in external_data(model)}
    check_outputs_distinct({"--json": args.json, "--markdown": args.markdown, "--plot": args.plot}, taken)
