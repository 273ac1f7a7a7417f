"""The flags that say what to measure, for `aerogel bench` and for the commands that run it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from aerogel.registry import plugin_names
from aerogel.system import arguments

if TYPE_CHECKING:
    from aerogel.bench.result import Settings

__all__ = ["add_measurement_arguments", "settings"]


def add_measurement_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare models, backends and configurations."""
    numbers = arguments.numbers
    backends = ", ".join(plugin_names("aerogel.bench.backends"))
    parser.add_argument("models", nargs="+", type=Path, metavar="MODEL.onnx", help="exported models")
    parser.add_argument(
        "--baseline",
        type=Path,
        metavar="MODEL.onnx",
        help="model whose run on stock ONNX Runtime is 1.0 (default: the first dense one, else the first)",
    )
    parser.add_argument(
        "--backends",
        type=arguments.words,
        default=[],
        metavar="NAME,...",
        help=f"further backends to measure, on dense exports, comma-separated, or all; known: {backends}",
    )
    parser.add_argument(
        "--device",
        choices=("cpu", "cuda"),
        default="cpu",
        help="cuda: PyTorch on a GPU, dense and sparse, eager, compiled and in a CUDA graph (default: cpu)",
    )
    parser.add_argument(
        "--dtype",
        choices=("float16", "bfloat16", "float32"),
        default="float16",
        help="of weights and activations on a GPU (default: float16)",
    )
    parser.add_argument(
        "--threads",
        type=numbers,
        default=[1],
        metavar="N,...",
        help="numbers of threads per inference, comma-separated (default: 1)",
    )
    parser.add_argument(
        "--batch", type=numbers, metavar="N,...", help="batch sizes, comma-separated (default: 1)"
    )
    parser.add_argument(
        "--seq", type=numbers, metavar="N,...", help="sequence lengths, comma-separated (default: 128)"
    )
    parser.add_argument(
        "--lengths",
        metavar="N,...|FILE",
        help="instead of --seq: the lengths of the sequences in one padded batch, comma-separated or one per line of "
        "FILE; with --batch N, N lengths are sampled",
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


def settings(args: argparse.Namespace) -> list[Settings]:
    """The configurations that the arguments ask for.

    Raises:
        UsageError: a number is out of range.
    """
    from aerogel.bench.configurations import points, read_lengths
    from aerogel.bench.result import Settings

    lengths = read_lengths(args.lengths) if args.lengths is not None else None
    same = Settings(rounds=args.rounds, repeats=args.repeats, seed=args.seed)
    return points(args.threads, args.batch, args.seq, lengths, same)
