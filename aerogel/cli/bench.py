"""`aerogel bench`: latency and memory of exported models against the dense baseline."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

HELP = "measure exported models against the dense baseline"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("models", nargs="+", type=Path, metavar="MODEL.onnx", help="exported models")
    parser.add_argument(
        "--baseline",
        type=Path,
        metavar="MODEL.onnx",
        help="model whose run on stock ONNX Runtime is 1.0 (default: the first dense one, else the first)",
    )
    parser.add_argument(
        "--threads", type=int, default=1, metavar="N", help="threads per inference (default: 1)"
    )
    parser.add_argument(
        "--batch", type=int, default=1, metavar="N", help="sequences per inference (default: 1)"
    )
    parser.add_argument(
        "--seq", type=int, default=128, metavar="N", help="tokens per sequence (default: 128)"
    )
    parser.add_argument(
        "--rounds", type=int, default=10, metavar="N", help="turns of each candidate (default: 10)"
    )
    parser.add_argument(
        "--repeats",
        type=int,
        metavar="N",
        help="inferences in each turn (default: about half a second of them)",
    )
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="seed of the random token ids (default: 0)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything measured to FILE")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the table to FILE as Markdown")
    parser.add_argument("--plot", type=Path, metavar="FILE.png", help="draw latency and memory to FILE.png")


def run(args: argparse.Namespace) -> int:
    """Measure, print the table, write what was asked for; 1 if a candidate's outputs were wrong."""
    from aerogel.bench import plot, report
    from aerogel.bench.harness import bench
    from aerogel.bench.result import Settings
    from aerogel.cli._arguments import apart
    from aerogel.cli._terminal import console, progress
    from aerogel.files import atomic_file, check_output

    settings = Settings(args.threads, args.batch, args.seq, args.rounds, args.repeats, args.seed)
    outputs = {"--json": args.json, "--markdown": args.markdown, "--plot": args.plot}
    taken = {f"the model {model}": model for model in args.models}
    if args.baseline:
        taken["the --baseline model"] = args.baseline
    for what, model in list(taken.items()):
        if model.name:  # else the path is no file, and refused with the rest
            taken[f"the manifest of {what}"] = model.with_suffix(".manifest.json")
    apart(outputs, taken)
    if args.plot:
        plot.check(args.plot)
    for output in filter(None, outputs.values()):
        check_output(output)
    with progress() as step:
        measured = bench(args.models, settings, args.baseline, progress=step)
    console().print(report.table(measured))
    errors = console(stderr=True)
    for item in measured.skipped:
        errors.print(f"note: {item.model.name} was not run on {item.candidate}: {item.reason}")
    for warning in measured.warnings:
        errors.print(f"warning: {warning}")
    if args.json:
        with atomic_file(args.json) as file:
            document = json.dumps(report.document(measured), indent=2, allow_nan=False)
            file.write_text(document + "\n", encoding="utf-8")
    if args.markdown:
        with atomic_file(args.markdown) as file:
            file.write_text(report.markdown(measured), encoding="utf-8")
    if args.plot:
        plot.plot(measured, args.plot)
    return 0 if all(item.correct for item in measured.runs) else 1
