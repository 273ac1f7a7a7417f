"""The headline measurement: ``python -m aerogel.bench.headline --out DIR`` (``make bench``).

A random BERT-base at 90% sparsity, unstructured and in 4x1 blocks, goes through the command line from `synth` to
`export` and `bench`. The folder gets a table, a plot and the JSON document of the results.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from aerogel.bench.arguments import add_measurement_arguments, settings
from aerogel.errors import UsageError

__all__ = ["commands", "main"]

# Checkpoint, block, and export formats. The dense file has the same zeros as the CSR file.
_MODELS = (("unstructured", "1x1", ("dense", "csr")), ("blocks4x1", "4x1", ("bsr",)))


def commands(out: Path, arch: str, density: float, measurement: Sequence[str]) -> list[list[str]]:
    """Return the `aerogel` arguments that make the models under `out` and measure them."""
    found: list[list[str]] = []
    files = []
    for name, block, formats in _MODELS:
        checkpoint = str(out / name)
        found.append(
            ["synth", "--arch", arch, "--density", str(density), "--block", block, "--out", checkpoint]
        )
        for format in formats:
            files.append(str(out / f"{name}-{format}" / f"{format}.onnx"))
            found.append(["export", checkpoint, "--to", "onnx", "--format", format, "--out", files[-1]])
    results = [
        "--json",
        str(out / "bench.json"),
        "--markdown",
        str(out / "bench.md"),
        "--plot",
        str(out / "bench.png"),
    ]
    found.append(["bench", *files, *measurement, *results])
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Print and run the commands in order; stop at the first failure and return its status."""
    parser = argparse.ArgumentParser(
        prog="python -m aerogel.bench.headline", description="The headline measurement."
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder for models and results"
    )
    parser.add_argument("--arch", default="bert-base", metavar="NAME", help="see `aerogel synth --help`")
    parser.add_argument(
        "--density", type=float, default=0.1, metavar="D", help="fraction of weights kept (default: 0.1)"
    )
    args, measurement = parser.parse_known_args(argv)
    _check(parser, measurement)
    for command in commands(args.out, args.arch, args.density, measurement):
        print(f"$ aerogel {shlex.join(command)}", flush=True)
        status = subprocess.run([sys.executable, "-m", "aerogel", *command], check=False).returncode
        if status:
            return status
    return 0


def _check(parser: argparse.ArgumentParser, measurement: Sequence[str]) -> None:
    """Check the arguments of `bench` before minutes of work."""
    add_measurement_arguments(
        bench_parser := argparse.ArgumentParser(usage=parser.format_usage(), add_help=False)
    )
    asked = bench_parser.parse_args(["MODEL.onnx", *measurement])
    try:
        settings(asked)
    except UsageError as error:
        parser.error(str(error))


if __name__ == "__main__":
    sys.exit(main())
