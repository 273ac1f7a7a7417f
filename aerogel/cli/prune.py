"""`aerogel prune`: prune a model without training it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from aerogel.system.arguments import block, output

if TYPE_CHECKING:
    from aerogel.prune.run import Report

HELP = "prune a model in minutes: no labels, no training"

# Relative error of a matrix's outputs above which the result deserves a warning: half of what it computed is lost.
_LARGE_ERROR = 0.5
_LARGE_UNKNOWN = 0.05


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments; names and defaults are those of `PruneConfig`."""
    parser.add_argument(
        "model", metavar="MODEL", help="directory or hub id: of transformers, or of sentence-transformers"
    )
    parser.add_argument(
        "--text", nargs="+", type=Path, required=True, metavar="FILE_OR_DIR",
        help="text files, or directories of them: any text like that which the model will see",
    )  # fmt: skip
    parser.add_argument("--out", type=output, required=True, metavar="CKPT", help="directory to write")
    parser.add_argument(
        "--density", type=float, required=True, metavar="D", help="fraction of the encoder's weights to keep"
    )
    parser.add_argument(
        "--block", type=block, default=(1, 1), metavar="RxC",
        help="rows x columns kept or pruned together (default: 1x1, unstructured)",
    )  # fmt: skip
    parser.add_argument(
        "--scope", choices=("local", "global"), default="local",
        help="keep the same fraction of every matrix, or more of those whose error would be greater (default: local)",
    )  # fmt: skip
    parser.add_argument(
        "--samples", type=int, default=512, metavar="N", help="sentences of the text to use (default: 512)"
    )
    parser.add_argument(
        "--max-length", type=int, default=128, metavar="N", help="tokens per sentence (default: 128)"
    )
    parser.add_argument(
        "--damping", type=float, default=0.01, metavar="X",
        help="how strongly weights are held at their values, relative to the inputs' mean square (default: 0.01)",
    )  # fmt: skip
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="seed of the choice of sentences (default: 0)"
    )
    parser.add_argument("--revision", metavar="NAME", help="branch, tag or commit of a hub id")
    parser.add_argument("--threads", type=int, metavar="N", help="CPU threads (default: torch's)")


def run(args: argparse.Namespace) -> None:
    """Prune, and print the error of each kind of matrix."""
    from aerogel.errors import require
    from aerogel.prune.config import PruneConfig

    config = PruneConfig(
        model=args.model, text=tuple(args.text), out=args.out, density=args.density, block=args.block,
        scope=args.scope, samples=args.samples, max_length=args.max_length, damping=args.damping, seed=args.seed,
        revision=args.revision, threads=args.threads,
    )  # fmt: skip
    require("torch", "train")
    require("transformers", "train").utils.logging.disable_progress_bar()
    from aerogel.prune.run import prune
    from aerogel.system.terminal import progress

    with progress(lines=True) as step:
        report = prune(config, lambda done, total: step("pruning", done, total))
    _print(report)


def _print(report: Report) -> None:
    from aerogel.system.terminal import console, rich_table

    kinds: dict[str, list[tuple[float, float]]] = {}
    for matrix in report.matrices:
        kind = ".".join(part for part in matrix.name.split(".")[:-1] if not part.isdigit())
        kinds.setdefault(kind, []).append((matrix.density, matrix.error))
    rows = []
    for kind, values in kinds.items():
        kept, errors = zip(*values, strict=True)
        numbers = f"{sum(kept) / len(kept):.3f}", f"{sum(errors) / len(errors):.4f}", f"{max(errors):.4f}"
        rows.append((f"{len(values)} {kind}", *numbers))
    table = rich_table(
        ("matrices", "density", "mean error", "largest error"), rows, str(report.checkpoint.path), words=1
    )
    out = console()
    out.print(table)
    accounting = report.checkpoint.accounting
    out.print(
        f"density {accounting.density:.4f} of the pruned matrices, {accounting.encoder_density:.4f} of the encoder; "
        f"errors of outputs on {report.sentences} sentences, {report.tokens} tokens",
        soft_wrap=True,
    )
    worst = max(report.matrices, key=lambda matrix: matrix.error)
    if worst.error > _LARGE_ERROR:
        out.print(
            f"warning: {worst.name} loses {worst.error:.0%} of its output; keep more weights, or train the model "
            "with the mask (`aerogel train --freeze-mask`)", soft_wrap=True,
        )  # fmt: skip
    if report.unknown > _LARGE_UNKNOWN:
        out.print(
            f"warning: {report.unknown:.0%} of the tokens are unknown to the tokenizer; "
            "give text in the model's language",
            soft_wrap=True,
        )
