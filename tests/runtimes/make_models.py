"""Write what check_models.py needs into a folder: dense, CSR and BSR exports of one random encoder.

    python tests/runtimes/make_models.py FOLDER ARCH

The models carry the same 90% sparse weights wherever the formats allow it: dense.onnx is the CSR model's own.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

import aerogel
from aerogel.cli import main as command

SEQUENCES = (1, 37, 128)
# By folder: block of the checkpoint, and options of its exports by their name.
EXPORTS = {
    "csr": (
        "1x1",
        {
            "dense": ["--format", "dense"],
            "csr": ["--format", "csr"],
            "int8": ["--format", "csr", "--weights", "int8", "--embeddings", "int8"],
        },
    ),
    "bsr": (
        "4x1",
        {
            "bsr": ["--format", "bsr"],
            "fp16": ["--format", "bsr", "--weights", "fp16", "--embeddings", "fp16"],
        },
    ),
}


def make(folder: Path, arch: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for form, (block, exports) in EXPORTS.items():
        checkpoint = folder / form / "checkpoint"
        run("synth", "--arch", arch, "--density", "0.1", "--block", block, "--out", str(checkpoint))
        for name, options in exports.items():
            target = folder / form / f"{name}.onnx"
            run("export", str(checkpoint), "--to", "onnx", *options, "--out", str(target))
            reference(target)
    (folder / "arch.txt").write_text(arch, encoding="utf-8")
    (folder / "library.txt").write_text(aerogel.library_path(), encoding="utf-8")


def run(*words: str) -> None:
    print("aerogel", *words, flush=True)
    if status := command(words):
        sys.exit(status)


def reference(path: Path) -> None:
    """Save inputs and the outputs that this environment's ONNX Runtime gives without the library."""
    session = aerogel.session(path, library=False)
    random = np.random.default_rng(0)
    arrays = {}
    for length in SEQUENCES:
        shape = (2, length)
        for value in session.get_inputs():
            high = 1000 if value.name == "input_ids" else 1
            arrays[f"{length}/in/{value.name}"] = random.integers(0, high, shape) + int(
                value.name == "attention_mask"
            )
        feed = {key.split("/")[2]: array for key, array in arrays.items() if key.startswith(f"{length}/in/")}
        for value, array in zip(session.get_outputs(), session.run(None, feed), strict=True):
            arrays[f"{length}/out/{value.name}"] = array
    np.savez(path.with_suffix(".npz"), **arrays)


if __name__ == "__main__":
    make(Path(sys.argv[1]), sys.argv[2])
