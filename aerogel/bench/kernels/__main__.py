"""The products alone: ``python -m aerogel.bench.kernels.__main__``.

One thread, one layer: the native library's kernel over a range of densities and blocks against ONNX Runtime's dense
product and addition of the same layer, or, with --against, beside those of other libraries. All products of a layer
take turns; the fastest of their times is kept, as for so short a piece of work every disturbance only adds. A ratio
of 1 is the break-even that `aerogel.ops.functions` states.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from aerogel.bench.compare import difference
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
_OURS, _DENSE = "aerogel", "onnxruntime"


def layer(shape: tuple[int, int], block: tuple[int, int], density: float, tokens: int) -> Layer:
    """A random layer: `shape` is (out, in), `density` the fraction kept."""
    random = np.random.default_rng(0)
    weight = random.standard_normal(shape, np.float32)
    x = random.standard_normal((tokens, shape[1]), np.float32)
    mask = top_masks({"w": weight}, density, block)["w"]
    return Layer(np.where(mask, weight, np.float32(0)), mask, block, x)


def fastest(runs: Mapping[str, Callable[[], object]], turns: int) -> dict[str, float]:
    """Seconds of the fastest of `turns` calls of each, in turns."""
    best = dict.fromkeys(runs, float("inf"))
    for _ in range(turns):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            best[name] = min(best[name], time.perf_counter() - start)
    return best


def ratios(
    shape: tuple[int, int], block: tuple[int, int], densities: Sequence[float], tokens: int, turns: int
) -> list[tuple[float, float]]:
    """Per density, the sparse layer's seconds and the dense layer's.

    Args:
        shape: (out_features, in_features).
        block: (rows, cols) kept or dropped together.
        densities: fractions kept.
        tokens: rows of the activations.
        turns: how often each candidate is timed.
    """
    found = []
    for density in densities:
        made = layer(shape, block, density, tokens)
        best = fastest({name: KERNELS.get(name).open(made) for name in (_OURS, _DENSE)}, turns)
        found.append((best[_OURS], best[_DENSE]))
    return found


def compare(made: Layer, names: Sequence[str], turns: int) -> dict[str, float]:
    """Seconds of each of the products `names` that can multiply `made`, checked to be right.

    Raises:
        RuntimeLoadError: one gives something else.
    """
    expected = made.x.astype(np.float64) @ made.weight.T.astype(np.float64)
    runs = {name: KERNELS.get(name).open(made) for name in names if KERNELS.get(name).refuse() is None}
    for name, run in runs.items():
        apart = difference([run()], [expected])
        if not apart <= TOLERANCES["fp32"]:
            raise RuntimeLoadError(f"{name} multiplies wrongly (relative difference {apart:.1e})")
    return fastest(runs, turns)


def main(argv: Sequence[str] | None = None) -> int:
    """Print a table in Markdown."""
    parser = argparse.ArgumentParser(
        prog="python -m aerogel.bench.kernels.__main__", description="The products alone."
    )
    parser.add_argument(
        "--tokens", type=int, default=128, metavar="N", help="rows of activations (default: 128)"
    )
    parser.add_argument("--turns", type=int, default=25, metavar="N", help="timings of each (default: 25)")
    parser.add_argument(
        "--against",
        type=arguments.words,
        metavar="NAME,...",
        help=f"one density beside other libraries: {', '.join(KERNELS.names())}; all for every one",
    )
    parser.add_argument("--density", type=float, default=0.1, metavar="D", help="that density (default: 0.1)")
    args = parser.parse_args(argv)
    if min(args.tokens, args.turns) < 1:
        parser.error("--tokens and --turns are whole numbers from 1")
    try:
        lines = _against(args) if args.against else _by_density(args)
    except AerogelError as error:
        print(f"aerogel: error: {one_line(error)}", file=sys.stderr)
        return 2
    print(lines)
    return 0


def _by_density(args: argparse.Namespace) -> str:
    """Sparse over dense time, by shape, blocks and density."""
    lines = [
        f"{args.tokens} tokens, one thread, kernels: {selected()}; sparse over dense time, GFLOP/s on nonzeros\n",
        "| layer | blocks | " + " | ".join(f"{density:.0%}" for density in _DENSITIES) + " |",
        "| --- | --- |" + " ---: |" * len(_DENSITIES),
    ]
    for shape in _SHAPES:
        for block in _BLOCKS:
            cells = []
            for density, (sparse, dense) in zip(
                _DENSITIES, ratios(shape, block, _DENSITIES, args.tokens, args.turns), strict=True
            ):
                rate = 2 * density * shape[0] * shape[1] * args.tokens / sparse / 1e9
                cells.append(f"{sparse / dense:.2f}, {rate:.0f}")
            lines.append(f"| {shape[0]}x{shape[1]} | {_name(block)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _against(args: argparse.Namespace) -> str:
    """Every library by shape and blocks, with rates.

    What the multipliers could do at most is taken to be what the fastest dense product of the run did.
    """
    names = (
        KERNELS.names() if args.against == ["all"] else list(dict.fromkeys([_OURS, *args.against, _DENSE]))
    )
    found = []
    for shape in _SHAPES:
        for block in _BLOCKS:
            made = layer(shape, block, args.density, args.tokens)
            found += [(made, name, seconds) for name, seconds in compare(made, names, args.turns).items()]
    peak = max(made.dense_operations / seconds for made, name, seconds in found if name == _DENSE)
    lines = [
        f"{args.tokens} tokens, {args.density:.0%} kept, one thread, kernels: {selected()}; "
        f"fastest dense product {peak / 1e9:.0f} GFLOP/s\n",
        "| layer | blocks | library | us | GFLOP/s on nonzeros | dense-equivalent | of the fastest dense rate |",
        "| --- | --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for made, name, seconds in found:
        dense = made.dense_operations / seconds
        rate = dense if name == _DENSE else made.operations / seconds
        nonzeros = f"{made.operations / seconds / 1e9:.0f}"
        lines.append(
            f"| {made.weight.shape[0]}x{made.weight.shape[1]} | {_name(made.block)} | {name} | {seconds * 1e6:.0f} "
            f"| {nonzeros} | {dense / 1e9:.0f} | {rate / peak:.0%} |"
        )
    reasons = {name: reason for name in names if (reason := KERNELS.get(name).refuse())}
    lines += [f"\n{name} was not measured: {reason}" for name, reason in reasons.items()]
    return "\n".join(lines)


def _name(block: tuple[int, int]) -> str:
    return "unstructured" if block == (1, 1) else f"{block[0]}x{block[1]}"


if __name__ == "__main__":
    raise SystemExit(main())
