"""`aerogel run`: run an exported model on all rows of files."""

from __future__ import annotations

import argparse
from pathlib import Path

from aerogel.registry import plugin_names
from aerogel.system import arguments

HELP = "run an exported model on the rows of files: JSON lines, CSV, TSV, Parquet, text or standard input"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    readers = ", ".join(plugin_names("aerogel.bulk.readers"))
    methods = ", ".join(plugin_names("aerogel.bulk.methods"))
    engines = ", ".join(plugin_names("aerogel.bulk.engines"))
    parser.add_argument("model", type=Path, metavar="DIR", help="exported model, a folder or an .onnx file")
    parser.add_argument(
        "--in",
        dest="inputs",
        type=Path,
        nargs="+",
        required=True,
        metavar="FILE",
        help="files to read, in order, plain or gzipped; - for standard input",
    )
    parser.add_argument(
        "--out",
        type=arguments.output,
        required=True,
        metavar="FILE",
        help="file to write: .parquet, .npy or .jsonl; a pipe gets JSON lines",
    )
    parser.add_argument(
        "--format",
        metavar="FORMAT",
        help=f"format of the inputs: {readers} (default: that of the suffix; txt for standard input)",
    )
    parser.add_argument(
        "--column",
        action="append",
        metavar="NAME",
        help="column of the text; give it twice for pairs: query and text, question and context (default: text)",
    )
    parser.add_argument(
        "--keep",
        action="append",
        default=[],
        metavar="NAME",
        help="column to copy to the output; may be given several times",
    )
    parser.add_argument(
        "--method", metavar="METHOD", help=f"what to compute: {methods} (default: that of the model's head)"
    )
    parser.add_argument("--name", metavar="NAME", help="model to choose from a folder with several")
    parser.add_argument(
        "--prompt", metavar="NAME", help="name of the prompt to put before each text (default: the model's)"
    )
    parser.add_argument("--dimensions", type=int, metavar="N", help="leading features to keep of each vector")
    parser.add_argument("--top-k", type=int, metavar="N", help="labels, answers or tokens per row")
    parser.add_argument(
        "--max-length", type=int, metavar="N", help="truncate texts to N tokens (default: the model's limit)"
    )
    parser.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="batches to compute at once (default: one per physical core)",
    )
    parser.add_argument(
        "--threads", type=int, default=1, metavar="N", help="threads of each worker (default: 1)"
    )
    parser.add_argument(
        "--engine", default="local", metavar="ENGINE", help=f"where to run: {engines} (default: local)"
    )
    parser.add_argument(
        "--resume", action="store_true", help="continue the unfinished job of --out, if there is one"
    )
    parser.add_argument(
        "--restart", action="store_true", help="discard the unfinished job of --out and start again"
    )


def run(args: argparse.Namespace) -> int:
    """Run the job; print the number of rows and the rate."""
    import time

    from aerogel.bulk.method import Options
    from aerogel.bulk.progress import reporting
    from aerogel.bulk.run import BulkConfig, run_bulk
    from aerogel.bulk.work import Loading
    from aerogel.errors import UsageError
    from aerogel.system.atomic_io import check_output
    from aerogel.system.overlap import check_outputs_distinct
    from aerogel.system.terminal import console

    if args.inputs.count(Path("-")) > 1:
        raise UsageError("--in: standard input can be read once; give - once")
    names = {f"the input {path}": path for path in args.inputs if path != Path("-")}
    check_outputs_distinct({"--out": args.out}, names, {"the model": args.model})
    check_output(args.out)
    standard_input = Path("-") in args.inputs
    config = BulkConfig(
        Loading(args.model, args.name, args.max_length, args.threads),
        [Path("/dev/stdin") if path == Path("-") else path for path in args.inputs],
        args.out,
        columns=args.column or ["text"],
        keep=args.keep,
        input_format=args.format or ("txt" if standard_input else None),
        method=args.method,
        options=Options(args.prompt, args.dimensions, args.top_k),
        engine=args.engine,
        workers=args.workers,
        resume=args.resume,
        restart=args.restart,
    )
    start = time.monotonic()
    with reporting() as report:
        rows = run_bulk(config, report)
    console(stderr=True).print(f"{rows:,} rows in {args.out}, {time.monotonic() - start:,.1f} s")
    return 0
