"""Run the models of make_models.py on whatever ONNX Runtime this interpreter has; needs it and numpy, nothing else.

    python tests/runtimes/check_models.py FOLDER

Fails when an output is off, when a sparse file is slower than the dense one on the stock runtime (the function bodies
were not folded), or when the library does not make it faster.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime

# The stock runtime may need as much longer than for the dense file before that counts as unfolded (noise), and the
# library must gain at least this much over it; both far from what is measured, about 1.0 and 2.
STOCK_LIMIT, LIBRARY_GAIN = 1.3, 1.25
ROUNDS, WARM_UP = 15, 3
# Largest relative error. With activations in 8 bits, the last bit of one runtime rounds some to another integer than
# that of the next.
TOLERANCE, TOLERANCE_INT8 = 1e-4, 2e-2


def open_session(path: Path, library: str | None) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    if library:
        options.register_custom_ops_library(library)
    # Fused, SkipLayerNormalization takes longer than the two nodes it replaces.
    return onnxruntime.InferenceSession(
        str(path), options, providers=["CPUExecutionProvider"], disabled_optimizers=["SkipLayerNormFusion"]
    )


def largest_error(session: onnxruntime.InferenceSession, path: Path) -> float:
    """Over all recorded cases, the largest difference relative to the largest output."""
    with np.load(path.with_suffix(".npz"), allow_pickle=False) as arrays:
        cases: dict[str, tuple[dict[str, np.ndarray], list[np.ndarray]]] = {}
        for key in arrays.files:
            length, kind, name = key.split("/")
            feed, expected = cases.setdefault(length, ({}, []))
            if kind == "in":
                feed[name] = arrays[key]
            else:
                expected.append(arrays[key])
    worst = 0.0
    for feed, expected in cases.values():
        for got, want in zip(session.run(None, feed), expected, strict=True):
            worst = max(worst, float(np.abs(got - want).max() / np.abs(want).max()))
    return worst


def main(folder: Path) -> int:
    library = (folder / "library.txt").read_text(encoding="utf-8")
    files = {
        "dense": folder / "csr" / "dense.onnx",
        "csr": folder / "csr" / "csr.onnx",
        "csr-int8": folder / "csr" / "int8.onnx",
        "bsr": folder / "bsr" / "bsr.onnx",
        "bsr-fp16": folder / "bsr" / "fp16.onnx",
    }
    sessions = {
        (name, with_library): open_session(path, library if with_library else None)
        for name, path in files.items()
        for with_library in (False, True)
        if name != "dense" or not with_library
    }
    errors = {key: largest_error(session, files[key[0]]) for key, session in sessions.items()}
    names = [value.name for value in next(iter(sessions.values())).get_inputs()]
    feed = {name: np.ones((1, 128), np.int64) for name in names}
    times: dict[tuple[str, bool], list[float]] = {key: [] for key in sessions}
    for _ in range(WARM_UP + ROUNDS):
        for key, session in sessions.items():
            start = time.perf_counter()
            session.run(None, feed)
            times[key].append(time.perf_counter() - start)
    best = {key: min(values[WARM_UP:]) for key, values in times.items()}
    failed = []
    arch = (folder / "arch.txt").read_text(encoding="utf-8")
    print(f"ONNX Runtime {onnxruntime.__version__}, {arch}, 10% dense, batch 1, sequence 128, one thread")
    for (name, with_library), seconds in best.items():
        error = errors[name, with_library]
        label = f"{name}{' with the library' if with_library else ', stock'}"
        print(f"  {label:28} {seconds * 1e3:7.2f} ms, largest relative error {error:.1e}")
        if not error < (TOLERANCE_INT8 if name.endswith("int8") else TOLERANCE):
            failed.append(f"{label}: outputs are off by {error}")
        if not with_library and seconds > STOCK_LIMIT * best["dense", False]:
            failed.append(f"{label}: slower than dense")
        if with_library and seconds * LIBRARY_GAIN > best[name, False]:
            failed.append(f"{label}: no faster than without")
    for line in failed:
        print(f"FAILED {line}")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
