"""Run the model of this folder on texts: python example.py TEXT [TEXT ...].

Needs numpy, onnxruntime and tokenizers; nothing of Aerogel but the native library in this folder.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnxruntime
from tokenizers import Tokenizer


def main(*texts: str) -> None:
    """Print the shape and the first values of each output."""
    folder = Path(__file__).parent
    options = onnxruntime.SessionOptions()
    # Without a library for this machine, the model runs at dense speed.
    for library in folder.glob("*aerogel.*"):
        if library.suffix in (".so", ".dylib", ".dll"):
            options.register_custom_ops_library(str(library))
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), options)
    # The tokenizer truncates long texts and pads the batch.
    encoded = Tokenizer.from_file(str(folder / "tokenizer.json")).encode_batch(list(texts))
    arrays = {
        "input_ids": [item.ids for item in encoded],
        "attention_mask": [item.attention_mask for item in encoded],
        "token_type_ids": [item.type_ids for item in encoded],
    }
    feed = {port.name: np.array(arrays[port.name], np.int64) for port in session.get_inputs()}
    names = [port.name for port in session.get_outputs()]
    for name, array in zip(names, session.run(names, feed), strict=True):
        print(name, list(array.shape), " ".join(f"{value:.5f}" for value in array.ravel()[:5]))


if __name__ == "__main__":
    main(*sys.argv[1:])
