"""`aerogel export`: a masked checkpoint becomes a verified artifact."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from aerogel.system import arguments

HELP = "turn a checkpoint into one file that runs sparse, and verify it"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("checkpoint", type=Path, metavar="CKPT", help="checkpoint directory")
    parser.add_argument("--to", default="onnx", metavar="TARGET", help="kind of artifact (default: onnx)")
    parser.add_argument(
        "--format",
        help="how pruned matrices are stored: csr, bsr or dense (default: bsr if they were pruned in blocks, else csr)",
    )
    parser.add_argument(
        "--weights",
        default="fp32",
        metavar="TYPE",
        help="type of their values: fp32, fp16 or int8 (default: fp32)",
    )
    parser.add_argument(
        "--embeddings",
        default="fp32",
        metavar="TYPE",
        help="type of the embedding tables' values: fp32, fp16 or int8 (default: fp32)",
    )
    parser.add_argument(
        "--out", type=arguments.output, required=True, metavar="FILE.onnx", help="the file to write"
    )
    parser.add_argument(
        "--block", type=arguments.block, metavar="RxC", help="blocks to store (default: the checkpoint's)"
    )
    parser.add_argument(
        "--max-density",
        type=float,
        metavar="D",
        help="a matrix that would store more than this fraction is stored whole (default: the kernel's break-even)",
    )
    parser.add_argument(
        "--inline",
        action="store_true",
        help="write plain operators only, for runtimes that refuse functions; the sparse kernels cannot run then",
    )
    parser.add_argument(
        "--no-fuse",
        action="store_true",
        help="leave a node for each linear layer instead of one for the encoder",
    )
    parser.add_argument(
        "--verify-text",
        type=Path,
        metavar="FILE",
        help="also compare outputs over every line of FILE: a text, or two with a tab between (.gz is unpacked)",
    )
    parser.add_argument(
        "--verify-task",
        action="store_true",
        help="also measure the file on the checkpoint's own task; a loss beyond --allow-drop fails the export",
    )
    parser.add_argument(
        "--task-data", type=Path, metavar="DIR", help="directory of that task's files (default: from the hub)"
    )
    parser.add_argument(
        "--allow-drop",
        type=float,
        default=0.5,
        metavar="POINTS",
        help="how much worse, in hundredths of a metric, the file may be than the checkpoint (default: 0.5)",
    )
    parser.add_argument(
        "--force", action="store_true", help="overwrite files that an earlier export did not make"
    )
    parser.add_argument(
        "--json",
        type=arguments.output,
        metavar="FILE",
        help="write the report to FILE; - is standard output",
    )


def run(args: argparse.Namespace) -> int:
    """Export, verify, print what was done."""
    from aerogel.export import report
    from aerogel.export.config import ExportConfig
    from aerogel.export.output_dir import companions
    from aerogel.export.run import export
    from aerogel.runtime.artifact import manifest_path
    from aerogel.system.atomic_io import atomic_file, check_output
    from aerogel.system.cache import cache_folder
    from aerogel.system.overlap import check_outputs_distinct
    from aerogel.system.terminal import console, progress

    config = ExportConfig(
        checkpoint=args.checkpoint,
        out=args.out,
        target=args.to,
        format=args.format,
        weights=args.weights,
        embeddings=args.embeddings,
        block=args.block,
        max_density=args.max_density,
        inline=args.inline,
        fuse=not args.no_fuse,
        force=args.force,
        verify_text=args.verify_text,
        verify_task=args.verify_task,
        task_data=args.task_data,
        allow_drop=args.allow_drop,
    )
    to_file = args.json is not None and args.json != Path("-")
    if to_file:
        taken = {
            "the --verify-text file": args.verify_text,
            "the model": args.out,
        }
        if args.out.name:  # else --out is refused with the rest
            taken["the model's manifest"] = manifest_path(args.out)
        taken |= {
            f"the model's {file.name}": args.out.parent / file.name for file in companions(args.checkpoint)
        }
        folders = {
            "the checkpoint itself": args.checkpoint,
            "--task-data": args.task_data,
            "the folder of calibrations": cache_folder(),
        }
        check_outputs_distinct({"--json": args.json}, taken, folders)
        check_output(args.json)
    with progress() as step:
        document = export(config, step)
    if args.json and not to_file:
        json.dump(document, sys.stdout, indent=2)
        print()
        return 0
    out = console()
    out.print(report.table(document))
    if speed := report.speed_table(document):
        out.print(speed)
    out.print(report.verdict(document))
    if to_file:
        with atomic_file(args.json) as file:
            file.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    return 0
