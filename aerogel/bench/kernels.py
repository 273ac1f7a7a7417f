"""The products alone: ``python -m aerogel.bench.kernels``.

One thread, one layer: the native library's kernel over a range of densities and blocks against ONNX Runtime's dense
product and addition of the same layer. Each density's two candidates take turns; the fastest of their times is
kept, as for so short a piece of work every disturbance only adds. A ratio of 1 is the break-even that
`aerogel.export.functions` states.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from aerogel import runtime
from aerogel.errors import require
from aerogel.kernels.cpu.native import SparseLinear, selected
from aerogel.sparse.formats import FORMATS
from aerogel.sparse.masks import top_masks

__all__ = ["main", "ratios"]

_SHAPES = ((768, 768), (3072, 768), (768, 3072), (384, 384), (1536, 384))
_DENSITIES = (0.05, 0.1, 0.2, 0.3, 0.5, 0.6, 0.8, 0.9)
_BLOCKS = (("csr", (1, 1)), ("bsr", (2, 1)), ("bsr", (4, 1)), ("bsr", (16, 16)))


def ratios(
    shape: tuple[int, int],
    form: str,
    block: tuple[int, int],
    densities: Sequence[float],
    tokens: int,
    turns: int,
) -> list[tuple[float, float]]:
    """Per density, the sparse layer's seconds and the dense layer's.

    Args:
        shape: (out_features, in_features).
        form: storage format.
        block: (rows, cols) kept or dropped together.
        densities: fractions kept.
        tokens: rows of the activations.
        turns: how often each candidate is timed.
    """
    random = np.random.default_rng(0)
    weight = random.standard_normal(shape, np.float32)
    x = random.standard_normal((tokens, shape[1]), np.float32)
    y = np.empty((tokens, shape[0]), np.float32)
    dense = _dense(weight)
    found = []
    for density in densities:
        mask = top_masks({"w": weight}, density, block)["w"]
        sparse = SparseLinear(FORMATS.get(form).encode(weight, mask, block), None, shape[1])
        candidates: list[Callable[[], object]] = [
            lambda sparse=sparse: sparse(x, out=y),  # type: ignore[misc]  # mypy sees no type for a bound default
            lambda: dense(x),
        ]
        best = [float("inf")] * 2
        for _ in range(turns):
            for i, run in enumerate(candidates):
                start = time.perf_counter()
                run()
                best[i] = min(best[i], time.perf_counter() - start)
        found.append((best[0], best[1]))
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Print a table in Markdown: sparse over dense time, by shape, format and density."""
    parser = argparse.ArgumentParser(
        prog="python -m aerogel.bench.kernels", description="The products alone."
    )
    parser.add_argument(
        "--tokens", type=int, default=128, metavar="N", help="rows of activations (default: 128)"
    )
    parser.add_argument("--turns", type=int, default=25, metavar="N", help="timings of each (default: 25)")
    args = parser.parse_args(argv)
    print(
        f"{args.tokens} tokens, one thread, kernels: {selected()}; sparse over dense time, GFLOP/s on nonzeros\n"
    )
    print("| layer | blocks | " + " | ".join(f"{density:.0%}" for density in _DENSITIES) + " |")
    print("| --- | --- |" + " ---: |" * len(_DENSITIES))
    for shape in _SHAPES:
        for form, block in _BLOCKS:
            cells = []
            for density, (sparse, dense) in zip(
                _DENSITIES, ratios(shape, form, block, _DENSITIES, args.tokens, args.turns), strict=True
            ):
                rate = 2 * density * shape[0] * shape[1] * args.tokens / sparse / 1e9
                cells.append(f"{sparse / dense:.2f}, {rate:.0f}")
            name = "unstructured" if block == (1, 1) else f"{block[0]}x{block[1]}"
            print(f"| {shape[0]}x{shape[1]} | {name} | " + " | ".join(cells) + " |", flush=True)
    return 0


def _dense(weight: np.ndarray) -> Callable[[np.ndarray], object]:
    """ONNX Runtime's x W^T + b on one thread."""
    onnx = require("onnx", "export")
    from onnx import numpy_helper

    graph = onnx.parser.parse_graph("g (float[t, k] x) => (float[t, n] y) { p = MatMul(x, w) y = Add(p, b) }")
    graph.initializer.extend(
        [
            numpy_helper.from_array(np.ascontiguousarray(weight.T), "w"),
            numpy_helper.from_array(np.zeros(len(weight), np.float32), "b"),
        ]
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "dense.onnx"
        onnx.save(model, path)
        session = runtime.session(path, threads=1, library=False)
    return lambda x: session.run(None, {"x": x})


if __name__ == "__main__":
    raise SystemExit(main())
