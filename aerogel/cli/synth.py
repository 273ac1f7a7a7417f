"""`aerogel synth`: a random masked checkpoint of a known architecture, for measurements of speed and memory."""

from __future__ import annotations

import argparse

from aerogel.system.arguments import block, output

HELP = "make a random masked checkpoint, for measurements"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    from aerogel.synth.archs import names

    known = ", ".join(names())
    parser.add_argument("--arch", required=True, metavar="NAME", help=f"architecture of the encoder: {known}")
    parser.add_argument(
        "--density", type=float, default=0.1, metavar="D", help="fraction of weights to keep (default: 0.1)"
    )
    parser.add_argument(
        "--block",
        type=block,
        default=(1, 1),
        metavar="RxC",
        help="rows x columns that are kept or pruned together (default: 1x1, unstructured)",
    )
    parser.add_argument(
        "--scope",
        choices=("local", "global"),
        default="local",
        help="apply the density to each matrix, or to all matrices together (default: local)",
    )
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="seed of weights and masks (default: 0)"
    )
    parser.add_argument(
        "--out", type=output, required=True, metavar="CKPT", help="checkpoint directory to write"
    )


def run(args: argparse.Namespace) -> None:
    """Write the checkpoint and print its size and density."""
    from aerogel.errors import require
    from aerogel.synth.generate import generate
    from aerogel.system.terminal import console

    require("transformers", "train").utils.logging.disable_progress_bar()
    checkpoint = generate(
        args.arch, args.out, density=args.density, block=args.block, scope=args.scope, seed=args.seed
    )
    accounting = checkpoint.accounting
    console().print(
        f"{args.out}: {args.arch}, {len(accounting.matrices)} matrices at density {accounting.density:.4f} "
        f"in {args.block[0]}x{args.block[1]} blocks, encoder {accounting.encoder_density:.4f}",
        soft_wrap=True,
    )
