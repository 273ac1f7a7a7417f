"""`aerogel inspect`: what a checkpoint's mask looks like."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from aerogel.system import arguments

if TYPE_CHECKING:
    from aerogel.inspect.report import Report

HELP = "analyse the mask of a checkpoint: structure, heads, blocks, agreement"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("checkpoint", type=Path, metavar="CKPT", help="checkpoint directory")
    parser.add_argument(
        "--against",
        type=Path,
        metavar="CKPT2",
        help="another checkpoint of the same model, to compare masks with",
    )
    parser.add_argument(
        "--dense", type=Path, metavar="DIR", help="the model before pruning, to compare embeddings with"
    )
    parser.add_argument(
        "--text",
        type=Path,
        metavar="FILE",
        help="with --dense: compare what the encoders make of these lines instead of the word embeddings",
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of samples (default: 0)")
    parser.add_argument(
        "--html", type=arguments.output, metavar="FILE", help="write everything to one HTML page"
    )
    parser.add_argument(
        "--plots", type=arguments.output, metavar="DIR", help="write the pictures to DIR as PNG files"
    )
    parser.add_argument(
        "--json",
        type=arguments.output,
        metavar="FILE",
        help="write what was found to FILE; - is standard output",
    )


def run(args: argparse.Namespace) -> None:
    """Analyse, write what was asked for, print the tables and the summary."""
    from aerogel.errors import UsageError
    from aerogel.export.verification_samples import read_texts
    from aerogel.inspect.report import inspect
    from aerogel.inspect.subject import load
    from aerogel.system.atomic_io import atomic_file
    from aerogel.system.terminal import console, progress, rich_table

    to_file = args.json if args.json != Path("-") else None
    _check_outputs(args, to_file)
    if args.text and not args.dense:
        raise UsageError("--text is read by the dense model and the pruned one; give --dense too")
    if not 0 <= args.seed < 2**32:
        raise UsageError(f"--seed {args.seed}: must be from 0 to 4294967295")
    first, second = read_texts(args.text) if args.text else ([], None)
    if second is not None:
        raise UsageError(
            f"--text {args.text}: has two texts a line; give one, as embeddings are compared text by text"
        )
    with progress() as step:
        subject = load(
            args.checkpoint, against=args.against, dense=args.dense, texts=tuple(first), seed=args.seed
        )
        report = inspect(subject, step)
        if args.html or args.plots:
            _draw(report, args.html, args.plots)
    if args.json == Path("-"):
        json.dump(report.document(), sys.stdout, indent=2, allow_nan=False)
        print()
        return
    if to_file:
        with atomic_file(to_file) as file:
            file.write_text(json.dumps(report.document(), indent=2, allow_nan=False) + "\n", encoding="utf-8")
    out = console()
    for _, section, finding in report.findings:
        for table in finding.tables:
            out.print(rich_table(table.header, table.rows, f"{section.title}: {table.title}", table.words))
    out.print("Summary")
    for sentence in report.summary:
        out.print(f"- {sentence}")


def _draw(report: Report, html: Path | None, plots: Path | None) -> None:
    from aerogel.inspect.figures import png
    from aerogel.inspect.page import page
    from aerogel.system.atomic_io import atomic_file

    images = {
        section: {picture.name: (png(picture.figure), picture.caption) for picture in pictures}
        for section, pictures in report.pictures().items()
    }
    if html:
        with atomic_file(html) as file:
            file.write_text(page(report, images), encoding="utf-8")
    for drawn in images.values() if plots else ():
        for name, (image, _) in drawn.items():
            assert plots is not None
            with atomic_file(plots / f"{name}.png") as file:
                file.write_bytes(image)


def _check_outputs(args: argparse.Namespace, to_file: Path | None) -> None:
    """Refuse outputs that cannot be drawn or written, lie in what is read, or would overwrite one another."""
    from aerogel.errors import require
    from aerogel.system.atomic_io import check_output
    from aerogel.system.cache import cache_folder
    from aerogel.system.overlap import check_outputs_distinct

    outputs = {"--html": args.html, "--plots": args.plots, "--json": to_file}
    read = {"the checkpoint": args.checkpoint, "--against": args.against, "--dense": args.dense}
    check_outputs_distinct(
        outputs, {"the --text file": args.text}, read | {"the folder of calibrations": cache_folder()}
    )
    if args.html or args.plots:
        require("matplotlib", "inspect")
    for path in filter(None, (args.html, args.plots / "density.png" if args.plots else None, to_file)):
        check_output(path)
