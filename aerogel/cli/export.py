"""`aerogel export`: turn a model into a verified artifact."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from aerogel.registry import plugin_names
from aerogel.system import arguments

HELP = "export a model, dense or pruned, to one ONNX file and verify it"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    targets = ", ".join(plugin_names("aerogel.export.targets"))
    formats = ", ".join(["auto", *plugin_names("aerogel.sparse.formats"), "compact", "dense"])
    types = ", ".join(plugin_names("aerogel.ops.value_types"))
    parser.add_argument(
        "model",
        type=Path,
        metavar="MODEL",
        help="checkpoint, transformers or sentence-transformers directory, .onnx file, or hub id",
    )
    parser.add_argument("--to", default="onnx", metavar="TARGET", help=f"target: {targets} (default: onnx)")
    parser.add_argument(
        "--layout",
        metavar="LAYOUT",
        help="of target onnx: flat, one folder (default), or hub, a folder for the Hugging Face hub",
    )
    parser.add_argument(
        "--push",
        metavar="REPO",
        help="with --layout hub: upload to this repository of the Hugging Face hub; a new one is private",
    )
    parser.add_argument(
        "--public", action="store_true", help="make the repository of --push public if it is new"
    )
    parser.add_argument(
        "--model-repository",
        default="/models",
        metavar="DIR",
        help="with --to triton-server: folder of the model repository on the server (default: /models)",
    )
    parser.add_argument(
        "--format",
        default="auto",
        metavar="FORMAT",
        help=f"storage format of pruned matrices: {formats} (default: auto, the fastest of csr, bsr and dense)",
    )
    parser.add_argument(
        "--weights",
        default="fp32",
        metavar="TYPE",
        help=f"value type of the encoder's matrices: {types} (default: fp32)",
    )
    parser.add_argument(
        "--embeddings",
        default="fp32",
        metavar="TYPE",
        help=f"value type of embedding tables: {types} (default: fp32)",
    )
    parser.add_argument(
        "--out",
        type=arguments.output,
        required=True,
        metavar="OUT",
        help="what to write: a file, or for some targets and layouts a folder",
    )
    parser.add_argument(
        "--block",
        type=arguments.block,
        metavar="RxC",
        help="rows x columns of stored blocks (default: the checkpoint's)",
    )
    parser.add_argument(
        "--max-density",
        type=float,
        metavar="D",
        help="store a matrix dense if its stored fraction would exceed D (default: the kernel's break-even)",
    )
    parser.add_argument(
        "--inline",
        action="store_true",
        help="write standard operators only, for runtimes without model-local functions; disables the sparse kernels",
    )
    parser.add_argument(
        "--no-fuse",
        action="store_true",
        help="keep one node per linear layer instead of one for the encoder",
    )
    parser.add_argument(
        "--token-embeddings",
        action="store_true",
        help="also export the token states of a sentence-transformers model",
    )
    parser.add_argument("--revision", metavar="REV", help="branch, tag or commit of a hub id")
    parser.add_argument(
        "--verify-text",
        type=Path,
        metavar="FILE",
        help="also compare outputs on each line of FILE: one text, or two separated by a tab; may be gzipped",
    )
    parser.add_argument(
        "--verify-task",
        action="store_true",
        help="also evaluate the file on the checkpoint's task; fail if a metric drops by more than --max-metric-drop",
    )
    parser.add_argument(
        "--task-data",
        type=Path,
        metavar="DIR",
        help="directory of the task's files (default: download from the hub)",
    )
    parser.add_argument(
        "--max-metric-drop",
        type=float,
        default=0.5,
        metavar="POINTS",
        help="largest accepted drop of a metric from the checkpoint's, in percentage points (default: 0.5)",
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="print formats, file size and predicted speed; write nothing (but the --json file)",
    )
    parser.add_argument(
        "--force", action="store_true", help="overwrite files that were not written by an earlier export"
    )
    parser.add_argument(
        "--json",
        type=arguments.output,
        metavar="FILE",
        help="write the manifest (of a dry run, the preview) to FILE; - is standard output",
    )


def run(args: argparse.Namespace) -> int:
    """Export, verify, and print the storage plan and the verdict; or preview the export."""
    from aerogel.export import preview, report
    from aerogel.export.config import ExportConfig
    from aerogel.export.output_dir import companions
    from aerogel.export.run import export
    from aerogel.export.target import TARGETS
    from aerogel.runtime.artifact import manifest_path
    from aerogel.system.atomic_io import atomic_file, check_output
    from aerogel.system.cache import cache_folder
    from aerogel.system.overlap import check_outputs_distinct
    from aerogel.system.terminal import console, progress

    config = ExportConfig(
        source=args.model,
        out=args.out,
        target=args.to,
        layout=args.layout,
        push=args.push,
        public=args.public,
        model_repository=args.model_repository,
        format=args.format,
        weights=args.weights,
        embeddings=args.embeddings,
        block=args.block,
        max_density=args.max_density,
        inline=args.inline,
        fuse=not args.no_fuse,
        token_embeddings=args.token_embeddings,
        revision=args.revision,
        force=args.force,
        verify_text=args.verify_text,
        verify_task=args.verify_task,
        task_data=args.task_data,
        max_metric_drop=args.max_metric_drop,
    )
    to_file = args.json is not None and args.json != Path("-")
    if to_file:
        taken = {"the --verify-text file": args.verify_text, "the model": args.out}
        model = TARGETS.get(args.to).layout(args.layout).model_path(config)
        if model == args.out:
            if args.out.name:  # without a name, --out is rejected later
                taken["the model's manifest"] = manifest_path(args.out)
            taken |= {
                f"the model's {file.name}": args.out.parent / file.name for file in companions(args.model)
            }
        folders = {
            "the checkpoint itself": args.model,
            "--task-data": args.task_data,
            "the cache of cost models": cache_folder(),
            "--out": None if model == args.out else args.out,
        }
        check_outputs_distinct({"--json": args.json}, taken, folders)
        check_output(args.json)
    with progress() as step:
        document = preview.preview(config, step) if args.dry_run else export(config, step)
    if args.json and not to_file:
        json.dump(document, sys.stdout, indent=2)
        print()
        return 0
    out = console()
    out.print(report.table(document))
    if speed := report.speed_table(document):
        out.print(speed)
    out.print(report.outlook(document) if args.dry_run else report.verdict(document))
    if args.push and not args.dry_run:
        out.print(f"uploaded to {args.push}")
    if to_file:
        with atomic_file(args.json) as file:
            file.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    return 0
