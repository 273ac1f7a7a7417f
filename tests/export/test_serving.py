from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from aerogel.errors import CheckpointError, UsageError
from aerogel.export.config import ExportConfig
from aerogel.export.output_dir import check_out
from aerogel.export.run import export
from aerogel.export.serving import same_tokenizer, serving_tokenizer
from aerogel.export.torch_reference import load_reference
from aerogel.runtime.artifact import manifest_path

LONG = "good " * 242
PAD = {"pad_id": 0, "pad_token": "[PAD]"}


def cutting(path: Path, to: Path, change: Callable[[Any], object]) -> Path:
    """A checkpoint whose tokenizer.json has truncation and padding."""
    folder = Path(shutil.copytree(path, to))
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    change(tokenizer)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def fixed(tokenizer: Any) -> None:
    """As all-MiniLM-L6-v2 is published."""
    tokenizer.enable_truncation(12)
    tokenizer.enable_padding(length=12, **PAD)


@pytest.mark.parametrize("change", [lambda t: t.enable_truncation(16), fixed, lambda t: t.no_truncation()])
def test_texts_are_truncated_to_the_model_and_padded_to_the_batch(
    tiny_checkpoint: Callable[..., Path], tmp_path: Path, change: Callable[[Any], object]
) -> None:
    source = load_reference(cutting(tiny_checkpoint(), tmp_path / "ckpt", change))
    content = serving_tokenizer(tmp_path / "ckpt" / "tokenizer.json", source.tokenizer, source.max_length)
    served = Tokenizer.from_buffer(content)
    assert source.max_length == 64
    assert len(served.encode(LONG)) == len(served.encode(LONG, "bad")) == 64
    assert len(served.encode("a good film is it")) == 7
    assert [len(row) for row in served.encode_batch(["good", "a bad film"])] == [5, 5]
    assert served.encode_batch(["good", "a bad film"])[0].attention_mask == [1, 1, 1, 0, 0]
    assert [len(row) for row in served.encode_batch(["good", LONG])] == [64, 64]


@pytest.mark.parametrize(("limit", "length"), [(40, 40), (512, 64), (None, 64)])
def test_sentence_transformers_limit_applies(
    tiny_checkpoint: Callable[..., Path], tmp_path: Path, limit: int | None, length: int
) -> None:
    folder = Path(shutil.copytree(tiny_checkpoint(), tmp_path / "ckpt"))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": limit}))
    assert load_reference(folder).max_length == length


@pytest.mark.parametrize("content", ["[", "[]", '{"max_seq_length": "256"}', '{"max_seq_length": 2}'])
def test_malformed_sentence_transformers_limit_is_refused(
    tiny_checkpoint: Callable[..., Path], tmp_path: Path, content: str
) -> None:
    folder = Path(shutil.copytree(tiny_checkpoint(), tmp_path / "ckpt"))
    (folder / "sentence_bert_config.json").write_text(content)
    with pytest.raises(CheckpointError, match=r"sentence_bert_config\.json"):
        load_reference(folder)


def test_exported_tokenizer_matches_the_manifest(
    tiny_checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    checkpoint = cutting(tiny_checkpoint(num_hidden_layers=1), tmp_path / "ckpt", fixed)
    out = tmp_path / "served" / "m.onnx"
    document = export(ExportConfig(checkpoint, out))
    served = Tokenizer.from_file(str(out.parent / "tokenizer.json"))
    assert document["max_length"] == len(served.encode(LONG)) == 64
    assert len(served.encode("good")) == 3
    # Earlier versions wrote the checkpoint's own file, or one with other truncation and padding.
    for change in (fixed, lambda t: t.enable_truncation(9)):
        cutting(tiny_checkpoint(num_hidden_layers=1), tmp_path / "other", change)
        shutil.move(tmp_path / "other" / "tokenizer.json", out.parent / "tokenizer.json")
        shutil.rmtree(tmp_path / "other")
        check_out(out, ".onnx", checkpoint, force=False)
    other = tmp_path / "served" / "again.onnx"
    export(ExportConfig(checkpoint, other))
    assert len(Tokenizer.from_file(str(out.parent / "tokenizer.json")).encode(LONG)) == 64
    recorded = json.loads(manifest_path(other).read_text())["companions"]
    assert recorded == document["companions"]


def test_different_tokenizer_is_not_overwritten(tiny_checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint()
    out = tmp_path / "served" / "m.onnx"
    cutting(checkpoint, out.parent, lambda t: t.add_tokens(["new"]))
    assert not same_tokenizer(checkpoint / "tokenizer.json", out.parent / "tokenizer.json")
    with pytest.raises(UsageError, match=r"tokenizer\.json exists and differs from the checkpoint's"):
        check_out(out, ".onnx", checkpoint, force=False)
