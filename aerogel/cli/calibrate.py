"""`aerogel calibrate`: measure how fast this machine multiplies, for export and inspect to predict with."""

from __future__ import annotations

import argparse
from pathlib import Path

from aerogel.system.arguments import numbers

HELP = "measure this machine, so that export and inspect can predict speed"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="threads (default: 1)")
    parser.add_argument(
        "--check",
        nargs="?",
        const="",
        metavar="CKPT",
        help="measure matrices that no calibration was made from, those of CKPT among them, and compare them with what "
        "is predicted; an earlier calibration is used where there is one",
    )
    parser.add_argument(
        "--tokens",
        type=numbers,
        default=[48, 128, 384],
        metavar="N[,N...]",
        help="rows of activations to check at (default: 48,128,384)",
    )


def run(args: argparse.Namespace) -> None:
    """Calibrate, or hold a calibration against measurements, and print what came of it."""
    from aerogel import checkpoint
    from aerogel.cost import cache
    from aerogel.cost.calibrate import calibrate
    from aerogel.cost.check import check
    from aerogel.cost.report import calibration_table, check_table, check_verdict
    from aerogel.errors import UsageError
    from aerogel.system.terminal import console, progress

    masks = checkpoint.load(Path(args.check)).masks if args.check else {}
    if not all(0 < tokens <= 4096 for tokens in args.tokens):
        raise UsageError("--tokens: give numbers from 1 to 4096")
    found = cache.find(args.threads) if args.check is not None else ""
    out = console()
    if isinstance(found, str):
        with progress() as step:
            found, busy = calibrate(args.threads, step)
        path = cache.save(found)
        if busy:
            console(stderr=True).print(f"aerogel: warning: {busy}", soft_wrap=True)
        out.print(calibration_table(found))
        out.print(f"kept in {path}", soft_wrap=True)
    if args.check is not None:
        with progress() as step:
            checked = check(found, masks, args.tokens, step)
        out.print(check_table(checked))
        out.print(check_verdict(checked))
