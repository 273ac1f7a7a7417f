"""Write the golden files: one checkpoint and one exported model of each kind, with the outputs that they must give.

    python tests/golden/write.py tests/golden/FOLDER

Run it once for each new schema and commit the folder; never change a folder that is there. Later versions must read it.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnxruntime
import safetensors.numpy
import torch
import transformers

import aerogel

sys.path.insert(0, str(Path(__file__).parents[1]))
from conftest import FAMILIES, tiny_tokenizer

# Exported models: block of the pruned weights, and how they are exported.
EXPORTS = {
    "csr": {"block": (1, 1), "format": "csr", "fuse": False},
    "bsr": {"block": (4, 1), "format": "bsr", "fuse": False},
    "int8": {"block": (1, 1), "format": "csr", "weights": "int8", "embeddings": "int8", "fuse": False},
    "fused": {"block": (1, 1), "format": "csr"},
    "fused-int8": {"block": (1, 1), "format": "csr", "weights": "int8"},
}
_LINES = ["the film is good\t1", "it was not good\t0", "a very good film\t1", "bad and very bad\t0"]


def main(out: Path) -> None:
    out = out.resolve()
    out.mkdir(parents=True)
    # Relative paths, because records and manifests keep them.
    with tempfile.TemporaryDirectory() as scratch:
        os.chdir(scratch)
        folder = Path()
        _write_model(folder / "model")
        for name in ("train.tsv", "dev.tsv"):
            (folder / name).write_text("\n".join(["sentence\tlabel", *_LINES]) + "\n", encoding="utf-8")
        for block in {settings["block"] for settings in EXPORTS.values()}:
            aerogel.train_model(_training(folder, block))
        for name, settings in EXPORTS.items():
            rows, cols = settings["block"]
            given = {key: value for key, value in settings.items() if key != "block"}
            checkpoint = folder / f"checkpoint-{rows}x{cols}"
            aerogel.export_model(aerogel.ExportConfig(checkpoint, out / name / "model.onnx", **given))
        (folder / "checkpoint-1x1").rename(out / "checkpoint")
    # Read by the test without tokenizers; the second row is padded.
    ids = np.array([[2, 5, 15, 10, 16, 3], [2, 17, 7, 3, 0, 0]])
    feed = {
        "input_ids": ids,
        "attention_mask": (ids != 0).astype(np.int64),
        "token_type_ids": np.zeros_like(ids),
    }
    arrays = dict(feed)
    for name in EXPORTS:
        session = onnxruntime.InferenceSession(out / name / "model.onnx", providers=["CPUExecutionProvider"])
        arrays[f"logits.{name}"] = session.run(["logits"], feed)[0]
    safetensors.numpy.save_file(arrays, out / "outputs.safetensors")


def _training(folder: Path, block: tuple[int, int]) -> aerogel.TrainConfig:
    rows, cols = block
    return aerogel.TrainConfig(
        task="sst2", data=folder, model="model", out=folder / f"checkpoint-{rows}x{cols}",
        method="movement", density=0.25, block=block, epochs=6, batch=4, max_length=16, lr=1e-2, warmup=0.0,
        final_warmup=0.0, save_scores=block == (1, 1), progress=False, threads=1,
    )  # fmt: skip


def _write_model(folder: Path) -> None:
    tokenizer = tiny_tokenizer()
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(tokenizer), max_position_embeddings=80, pad_token_id=0, **FAMILIES["bert"]
    )
    model = transformers.BertForSequenceClassification(config)
    for parameter in model.parameters():
        if parameter.ndim > 1:  # the default initialization has outputs near zero, which hides errors
            torch.nn.init.normal_(parameter, std=parameter.shape[1] ** -0.5)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
