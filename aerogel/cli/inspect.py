"""`aerogel inspect`: analyze the mask of a checkpoint."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from aerogel.system import arguments

if TYPE_CHECKING:
    from aerogel.inspect.report import Report

HELP = "analyze the mask of a checkpoint: structure, heads, blocks, agreement"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("checkpoint", type=Path, metavar="CKPT", help="checkpoint directory")
    parser.add_argument(
        "--against",
        type=Path,
        metavar="CKPT2",
        help="another checkpoint of the same model; compare the masks",
    )
    parser.add_argument(
        "--dense", type=Path, metavar="DIR", help="the model before pruning; compare the embeddings"
    )
    parser.add_argument(
        "--text",
        type=Path,
        metavar="FILE",
        help="with --dense: compare last hidden states of the lines of FILE instead of word embeddings",
    )
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="random seed of samples (default: 0)"
    )
    parser.add_argument(
        "--html", type=arguments.output, metavar="FILE", help="write tables and plots to one HTML page"
    )
    parser.add_argument(
        "--plots", type=arguments.output, metavar="DIR", help="write the plots to DIR as PNG files"
    )
    parser.add_argument(
        "--json",
        type=arguments.output,
        metavar="FILE",
        help="write the numbers to FILE; - is standard output",
    )


def run(args: argparse.Namespace) -> None:
    """Analyze, write the requested files, print the tables and the summary."""
    from aerogel.errors import UsageError
    from aerogel.export.verification_samples import read_texts
    from aerogel.inspect.report import inspect
    from aerogel.inspect.subject import load
    from aerogel.system.atomic_io import atomic_file
    from aerogel.system.terminal import console, progress, rich_table

    to_file = args.json if args.json != Path("-") else None
    _check_outputs(args, to_file)
    if args.text and not args.dense:
        raise UsageError("--text compares the dense model with the pruned one; give --dense too")
    if not 0 <= args.seed < 2**32:
        raise UsageError(f"--seed {args.seed}: must be from 0 to 4294967295")
    first, second = read_texts(args.text) if args.text else ([], None)
    if second is not None:
        raise UsageError(f"--text {args.text}: has two texts per line; give one text per line")
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
    for section in images.values() if plots else ():
        for name, (image, _) in section.items():
            assert plots is not None
            with atomic_file(plots / f"{name}.png") as file:
                file.write_bytes(image)


def _check_outputs(args: argparse.Namespace, to_file: Path | None) -> None:
    """Check that the outputs can be plotted and written, and overwrite neither an input nor one another."""
    from aerogel.errors import require
    from aerogel.system.atomic_io import check_output
    from aerogel.system.cache import cache_folder
    from aerogel.system.overlap import check_outputs_distinct

    outputs = {"--html": args.html, "--plots": args.plots, "--json": to_file}
    read = {"the checkpoint": args.checkpoint, "--against": args.against, "--dense": args.dense}
    check_outputs_distinct(
        outputs, {"the --text file": args.text}, read | {"the cache of cost models": cache_folder()}
    )
    if args.html or args.plots:
        require("matplotlib", "inspect")
    for path in filter(None, (args.html, args.plots / "density.png" if args.plots else None, to_file)):
        check_output(path)
