"""`aerogel calibrate`: fit a cost model of this machine, from which export and inspect predict speed."""

from __future__ import annotations

import argparse
from pathlib import Path

from aerogel.system.arguments import numbers

HELP = "fit a cost model of this machine, from which export and inspect predict speed"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument(
        "--threads", type=int, default=1, metavar="N", help="number of threads per inference (default: 1)"
    )
    parser.add_argument(
        "--check",
        nargs="?",
        const="",
        metavar="CKPT",
        help="compare predictions with measurements of matrices outside the fit, including those of CKPT; "
        "uses the saved cost model if there is one",
    )
    parser.add_argument(
        "--seq",
        type=numbers,
        default=[48, 128, 384],
        metavar="N,...",
        help="sequence lengths to check, comma-separated, at batch 1 (default: 48,128,384)",
    )


def run(args: argparse.Namespace) -> None:
    """Fit a cost model, or check it against measurements, and print the result."""
    from aerogel import checkpoint
    from aerogel.cost import cache
    from aerogel.cost.calibrate import calibrate
    from aerogel.cost.check import check
    from aerogel.cost.report import calibration_table, check_table, check_verdict
    from aerogel.errors import UsageError
    from aerogel.system.terminal import console, progress

    masks = checkpoint.load(Path(args.check)).masks if args.check else {}
    if wrong := [length for length in args.seq if not 0 < length <= 4096]:
        raise UsageError(f"--seq {wrong[0]}: must be from 1 to 4096")
    found = cache.find(args.threads) if args.check is not None else ""
    out = console()
    if isinstance(found, str):
        with progress() as step:
            found, busy = calibrate(args.threads, step)
        path = cache.save(found)
        if busy:
            console(stderr=True).print(f"aerogel: warning: {busy}", soft_wrap=True)
        out.print(calibration_table(found))
        out.print(f"saved to {path}", soft_wrap=True)
    if args.check is not None:
        with progress() as step:
            checked = check(found, masks, args.seq, step)
        out.print(check_table(checked))
        out.print(check_verdict(checked))
