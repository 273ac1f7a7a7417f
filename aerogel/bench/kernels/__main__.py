"""Benchmark single kernels: ``python -m aerogel.bench.kernels.__main__``.

Times one layer on one thread: Aerogel's sparse kernel over a range of densities and blocks against ONNX Runtime's
dense product and bias or, with --against, against other libraries at one density. The kernels of a layer take turns in
rounds, and the fastest time of each counts, as disturbances can only add time. A ratio of 1 is the break-even that
`aerogel.ops.functions` states.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from aerogel.bench.compare import relative_error
from aerogel.bench.kernel import Layer
from aerogel.bench.kernels import KERNELS
from aerogel.bench.precision import TOLERANCES
from aerogel.errors import AerogelError, RuntimeLoadError
from aerogel.kernels.cpu.native import selected
from aerogel.sparse.masks import top_masks
from aerogel.system import arguments
from aerogel.system.printable import one_line

__all__ = ["compare", "fastest", "main", "ratios"]

_SHAPES = ((768, 768), (3072, 768), (768, 3072), (384, 384), (1536, 384))
_DENSITIES = (0.05, 0.1, 0.2, 0.3, 0.5, 0.6, 0.8, 0.9)
_BLOCKS = ((1, 1), (2, 1), (4, 1), (16, 16))
_AEROGEL, _DENSE = "aerogel", "onnxruntime"


def layer(shape: tuple[int, int], block: tuple[int, int], density: float, tokens: int) -> Layer:
    """Return a random layer of `shape` (out, in), of which the fraction `density` is kept."""
    random = np.random.default_rng(0)
    weight = random.standard_normal(shape, np.float32)
    x = random.standard_normal((tokens, shape[1]), np.float32)
    mask = top_masks({"w": weight}, density, block)["w"]
    return Layer(np.where(mask, weight, np.float32(0)), mask, block, x)


def fastest(runs: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Call each function once per round, and return the seconds of the fastest call of each."""
    best = dict.fromkeys(runs, float("inf"))
    for _ in range(rounds):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            best[name] = min(best[name], time.perf_counter() - start)
    return best


def ratios(
    shape: tuple[int, int], block: tuple[int, int], densities: Sequence[float], tokens: int, rounds: int
) -> list[tuple[float, float]]:
    """Return the seconds of the sparse and of the dense layer for each density.

    Args:
        shape: (out_features, in_features).
        block: (rows, cols) kept or pruned together.
        densities: fractions kept.
        tokens: rows of the activations.
        rounds: timings of each kernel.
    """
    found = []
    for density in densities:
        operands = layer(shape, block, density, tokens)
        best = fastest({name: KERNELS.get(name).open(operands) for name in (_AEROGEL, _DENSE)}, rounds)
        found.append((best[_AEROGEL], best[_DENSE]))
    return found


def compare(operands: Layer, names: Sequence[str], rounds: int) -> dict[str, float]:
    """Check and time the kernels `names` that run on this machine; return the seconds of each.

    Raises:
        RuntimeLoadError: the output of a kernel is wrong.
    """
    expected = operands.x.astype(np.float64) @ operands.weight.T.astype(np.float64)
    runs = {name: KERNELS.get(name).open(operands) for name in names if KERNELS.get(name).refuse() is None}
    for name, run in runs.items():
        error = relative_error([run()], [expected])
        if not error <= TOLERANCES["fp32"]:
            raise RuntimeLoadError(f"the output of kernel {name} is wrong (relative error {error:.1e})")
    return fastest(runs, rounds)


def main(argv: Sequence[str] | None = None) -> int:
    """Print a table in Markdown."""
    parser = argparse.ArgumentParser(
        prog="python -m aerogel.bench.kernels.__main__", description="Benchmark single kernels."
    )
    parser.add_argument(
        "--tokens", type=int, default=128, metavar="N", help="rows of activations (default: 128)"
    )
    parser.add_argument(
        "--rounds", type=int, default=25, metavar="N", help="timings of each kernel (default: 25)"
    )
    parser.add_argument(
        "--against",
        type=arguments.words,
        metavar="NAME,...",
        help=f"compare with other libraries at one density: {', '.join(KERNELS.names())}; all for every one",
    )
    parser.add_argument(
        "--density", type=float, default=0.1, metavar="D", help="density for --against (default: 0.1)"
    )
    args = parser.parse_args(argv)
    for flag, value in (("--tokens", args.tokens), ("--rounds", args.rounds)):
        if value < 1:
            parser.error(f"{flag} {value}: must be at least 1")
    try:
        lines = _against(args) if args.against else _by_density(args)
    except AerogelError as error:
        print(f"aerogel: error: {one_line(error)}", file=sys.stderr)
        return 2
    print(lines)
    return 0


def _by_density(args: argparse.Namespace) -> str:
    """Return a table of sparse over dense time, by shape, block and density."""
    lines = [
        f"{args.tokens} tokens, one thread, kernels: {selected()}; sparse over dense time, GFLOP/s on nonzeros\n",
        "| layer | block | " + " | ".join(f"{density:.0%}" for density in _DENSITIES) + " |",
        "| --- | --- |" + " ---: |" * len(_DENSITIES),
    ]
    for shape in _SHAPES:
        for block in _BLOCKS:
            cells = []
            for density, (sparse, dense) in zip(
                _DENSITIES, ratios(shape, block, _DENSITIES, args.tokens, args.rounds), strict=True
            ):
                rate = 2 * density * shape[0] * shape[1] * args.tokens / sparse / 1e9
                cells.append(f"{sparse / dense:.2f}, {rate:.0f}")
            lines.append(f"| {shape[0]}x{shape[1]} | {_name(block)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _against(args: argparse.Namespace) -> str:
    """Return a table of every library by shape and block.

    The rate of the fastest dense product of the run is taken as the machine's peak.
    """
    names = (
        KERNELS.names() if args.against == ["all"] else list(dict.fromkeys([_AEROGEL, *args.against, _DENSE]))
    )
    found = []
    for shape in _SHAPES:
        for block in _BLOCKS:
            operands = layer(shape, block, args.density, args.tokens)
            times = compare(operands, names, args.rounds)
            found += [(operands, name, seconds) for name, seconds in times.items()]
    peak = max(operands.dense_operations / seconds for operands, name, seconds in found if name == _DENSE)
    lines = [
        f"{args.tokens} tokens, {args.density:.0%} kept, one thread, kernels: {selected()}; "
        f"fastest dense product {peak / 1e9:.0f} GFLOP/s\n",
        "| layer | block | kernel | us | GFLOP/s on nonzeros | dense-equivalent | of the dense peak |",
        "| --- | --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for operands, name, seconds in found:
        dense = operands.dense_operations / seconds
        rate = dense if name == _DENSE else operands.operations / seconds
        nonzeros = f"{operands.operations / seconds / 1e9:.0f}"
        rows, columns = operands.weight.shape
        lines.append(
            f"| {rows}x{columns} | {_name(operands.block)} | {name} | {seconds * 1e6:.0f} "
            f"| {nonzeros} | {dense / 1e9:.0f} | {rate / peak:.0%} |"
        )
    reasons = {name: reason for name in names if (reason := KERNELS.get(name).refuse())}
    lines += [f"\n{name} was not measured: {reason}" for name, reason in reasons.items()]
    return "\n".join(lines)


def _name(block: tuple[int, int]) -> str:
    return "unstructured" if block == (1, 1) else f"{block[0]}x{block[1]}"


if __name__ == "__main__":
    raise SystemExit(main())
