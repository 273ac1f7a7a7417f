from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch

from aerogel.cli import main
from aerogel.errors import CheckpointError, RuntimeLoadError
from aerogel.hf.load import load_model
from aerogel.hf.quiet import quiet
from aerogel.system.atomic_io import sha256
from aerogel.torch import report, sparsify

Checkpoints = Callable[..., Path]


def logits(model: Any) -> torch.Tensor:
    ids = torch.randint(5, 40, (2, 9), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        return model(input_ids=ids, attention_mask=torch.tensor([[1] * 9, [1] * 4 + [0] * 5])).logits


@pytest.fixture
def export(tmp_path: Path) -> Callable[..., Path]:
    """Factory of exports. Each checkpoint is exported once; every test gets its own copy."""

    def run(checkpoint: Path, *flags: str) -> Path:
        home = checkpoint.parent / "-".join(["export", *flags])
        if not home.exists():
            assert main(["export", str(checkpoint), "--out", str(home / "model.onnx"), *flags]) == 0
        shutil.copytree(home, tmp_path / "copy")
        return tmp_path / "copy" / "model.onnx"

    return run


@pytest.mark.parametrize(
    ("family", "block", "flags", "rounding"),
    [
        ("bert", (1, 1), [], 1e-6),
        ("distilbert", (4, 1), ["--no-fuse", "--max-density", "0.2"], 1e-6),
        ("roberta", (1, 1), ["--weights", "fp16", "--embeddings", "fp16"], 3e-3),
        ("bert", (1, 1), ["--format", "bitmask"], 1e-6),
    ],
)
def test_artifact_equals_its_checkpoint(
    tiny_checkpoint: Checkpoints, export: Callable[..., Path], family: str, block: tuple[int, int], flags: list[str],
    rounding: float,
) -> None:  # fmt: skip
    path = tiny_checkpoint(family, density=0.2, block=block, scope="global" if flags else "local")
    with quiet():
        expected = logits(load_model(path, attention=None))
    model = sparsify(export(path, *flags), "auto", max_density=1.0)
    assert len(report(model).sparse) >= 2
    assert not model.training
    torch.testing.assert_close(
        logits(model), expected, rtol=rounding, atol=rounding * float(expected.abs().max())
    )


def test_restores_parameters_that_are_stored_once(
    tiny_checkpoint: Checkpoints, export: Callable[..., Path], tmp_path: Path
) -> None:
    path = tmp_path / "plain"
    shutil.copytree(tiny_checkpoint(density=0.2), path)
    from safetensors.torch import load_file, save_file

    weights = load_file(path / "model.safetensors")
    for name, value in weights.items():
        if value.ndim == 1:
            value.fill_(float("LayerNorm.weight" in name))
    weights["bert.pooler.dense.bias"].fill_(0.5)
    save_file(weights, path / "model.safetensors", {"format": "pt"})
    record = json.loads((path / "aerogel.json").read_text())
    record["files"]["model.safetensors"] = sha256(path / "model.safetensors")
    (path / "aerogel.json").write_text(json.dumps(record))
    with quiet():
        expected = logits(load_model(path, attention=None))
    artifact = export(path)
    shared = json.loads(artifact.with_suffix(".manifest.json").read_text())["shared"]
    assert shared["classifier.bias"] == [2]
    assert shared["bert.encoder.layer.1.output.LayerNorm.weight"] == "bert.embeddings.LayerNorm.weight"
    torch.testing.assert_close(logits(sparsify(artifact)), expected, rtol=1e-5, atol=1e-6)


def test_tied_weights_are_tied(tiny_checkpoint: Checkpoints) -> None:
    model = sparsify(tiny_checkpoint("bert", "MaskedLM"))
    assert model.cls.predictions.decoder.weight is model.bert.embeddings.word_embeddings.weight


def edit(artifact: Path, change: Callable[[dict[str, Any], onnx.ModelProto], None]) -> None:
    """Change an artifact and its manifest, and update the hash in the manifest."""
    model = onnx.load(artifact)
    file = artifact.with_suffix(".manifest.json")
    manifest = json.loads(file.read_text())
    change(manifest, model)
    artifact.write_bytes(model.SerializeToString())
    file.write_text(json.dumps(manifest | {"sha256": sha256(artifact)}))


NAME = "bert.encoder.layer.0.intermediate.dense.weight"
MAX = 2**31 - 1


def initializer(model: onnx.ModelProto, name: str) -> onnx.TensorProto:
    return next(tensor for tensor in model.graph.initializer if tensor.name == name)


def outside(_: dict[str, Any], model: onnx.ModelProto) -> None:
    tensor = initializer(model, f"{NAME}.indices")
    tensor.raw_data = b"\xff\xff" * (len(tensor.raw_data) // 2)


def lost(_: dict[str, Any], model: onnx.ModelProto) -> None:
    initializer(model, f"{NAME}.indptr").name = "else"


def wide(manifest: dict[str, Any], _: onnx.ModelProto) -> None:
    manifest["matrices"][NAME]["shape"] = [64, 33]


def external(_: dict[str, Any], model: onnx.ModelProto) -> None:
    initializer(model, f"{NAME}.indptr").data_location = onnx.TensorProto.EXTERNAL


def short(_: dict[str, Any], model: onnx.ModelProto) -> None:
    tensor = initializer(model, "classifier.weight")
    tensor.raw_data = tensor.raw_data[:-1]


def removed(_: dict[str, Any], model: onnx.ModelProto) -> None:
    model.graph.initializer.remove(initializer(model, "classifier.weight"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (outside, rf"{NAME}: index 65535 at position 0 is outside"),
        (lost, rf"{NAME}\.indptr is missing"),
        (wide, r"has shape \[64, 33\], config.json requires \[64, 32\]"),
        # Sizes that exceed any memory.
        (lambda manifest, _: manifest["matrices"][NAME].update(shape=[64, MAX]), r"has shape \[64, 2147483647\], c"),
        (lambda manifest, _: manifest["matrices"][NAME].update(shape=[64, 10**12]), "is 1000000000000, not an integer"),
        (lambda manifest, _: manifest["shared"].update({"classifier.bias": [MAX]}), r"has shape \[2147483647\], c"),
        (lambda manifest, _: manifest["shared"].update({"classifier.bias": [10**13]}), "is 10000000000000, not an int"),
        (external, rf"{NAME}\.indptr is missing"),
        (short, "cannot read classifier.weight"),
        (lambda manifest, _: manifest["matrices"].update({"x": 1}), r"matrices\.x is 1, not an object"),
        (lambda manifest, _: manifest["matrices"][NAME].update(shape=[0, -1]), "is 0, not an integer from 1"),
        (lambda manifest, _: manifest.pop("shared"), "an earlier version wrote it"),
        (lambda manifest, _: manifest["shared"].update({"classifier.bias": "absent"}), "absent is missing"),
        (lambda manifest, _: manifest["shared"].update({"classifier.bias": [-1]}), "is -1, not an integer from 1"),
        (lambda manifest, _: manifest["shared"].update({"a": {}}), "an object of 0 fields, not text or a list"),
        (lambda manifest, _: manifest["shared"].update({"a": [1e999]}), "Infinity is not a JSON number"),
        (lambda manifest, _: manifest["shared"].update({"a": [2**30] * 3}), "values, more than 1099511627776"),
        (lambda manifest, _: manifest["matrices"][NAME].update(format="ell"), "unknown format 'ell'"),
        (removed, "the weights lack classifier.weight"),
    ],
)  # fmt: skip
def test_rejects_altered_artifacts(
    tiny_checkpoint: Checkpoints, export: Callable[..., Path], change: Any, message: str
) -> None:
    artifact = export(tiny_checkpoint(density=0.2), "--no-fuse")
    edit(artifact, change)
    with pytest.raises((RuntimeLoadError, CheckpointError), match=message):
        sparsify(artifact)


def test_link_to_an_artifact_uses_the_files_next_to_the_artifact(
    tiny_checkpoint: Checkpoints, export: Callable[..., Path], tmp_path: Path
) -> None:
    artifact = export(tiny_checkpoint(density=0.2), "--no-fuse")
    link = tmp_path / "links/current.onnx"
    link.parent.mkdir()
    link.symlink_to(artifact)
    for name in ("current.manifest.json", "config.json"):
        (link.parent / name).write_text("of another model")
    assert type(sparsify(link)) is type(sparsify(artifact))


def test_artifact_of_links_as_in_the_hugging_face_cache(
    tiny_checkpoint: Checkpoints, export: Callable[..., Path], tmp_path: Path
) -> None:
    artifact = export(tiny_checkpoint(density=0.2), "--no-fuse")
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshot"
    blobs.mkdir()
    snapshot.mkdir()
    for number, file in enumerate(sorted(artifact.parent.iterdir())):
        (blobs / f"{number:064}").write_bytes(file.read_bytes())
        (snapshot / file.name).symlink_to(f"../blobs/{number:064}")
    assert type(sparsify(snapshot / artifact.name)) is type(sparsify(artifact))


def test_rejects_files_that_are_not_an_artifact(
    tiny_checkpoint: Checkpoints, export: Callable[..., Path], tmp_path: Path
) -> None:
    with pytest.raises(RuntimeLoadError, match="does not exist"):
        sparsify(tmp_path / "none.onnx")
    artifact = export(tiny_checkpoint(), "--weights", "int8")
    with pytest.raises(RuntimeLoadError, match="is stored as int8"):
        sparsify(artifact)
    artifact.write_bytes(artifact.read_bytes() + b"\0")
    with pytest.raises(RuntimeLoadError, match=r"is not the manifest of model\.onnx"):
        sparsify(artifact)
    artifact.with_suffix(".manifest.json").unlink()
    with pytest.raises(RuntimeLoadError, match=r"cannot read .*manifest\.json \(No such file"):
        sparsify(artifact)


PEAK = """
import re, sys, threading, time
import torch, transformers, aerogel.torch, onnx, safetensors
from aerogel.hf import load as hf_load
def own():
    text = open("/proc/self/status").read()
    return int(re.search(r"RssAnon:\\s+(\\d+)", text)[1]) * 1024
peak, stop = 0, threading.Event()
def watch():
    global peak
    while not stop.is_set():
        peak = max(peak, own()); time.sleep(0.001)
aerogel.torch.sparsify(sys.argv[2])  # imports modules that load on first use
start = own()
thread = threading.Thread(target=watch); thread.start()
model = aerogel.torch.sparsify(sys.argv[1], sys.argv[3])
stop.set(); thread.join()
print(peak - start, own() - start, sum(p.nbytes for p in model.parameters()))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_dense_weights_are_never_in_memory_at_once(tiny_checkpoint: Checkpoints) -> None:
    """25 MB of matrices, each at most 1 MB, density 0.05. Masks take a quarter of the dense bytes."""
    sizes = {"hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": 8}
    path = tiny_checkpoint(density=0.05, **sizes)
    dense = 8 * (4 * 256 * 256 + 2 * 256 * 1024) * 4
    done = subprocess.run(
        [sys.executable, "-c", PEAK, str(path), str(tiny_checkpoint()), "csr"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    peak, *_ = map(int, done.stdout.split())
    assert peak < 0.6 * dense
