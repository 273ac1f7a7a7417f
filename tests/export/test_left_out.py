from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from aerogel.export.config import ExportConfig
from aerogel.export.left_out import left_out
from aerogel.export.report import verdict
from aerogel.export.run import export
from aerogel.export.torch_reference import load_reference

Checkpoints = Callable[..., Path]


def test_an_export_says_what_it_does_not_have(tiny_checkpoint: Checkpoints, tmp_path: Path) -> None:
    import onnx

    document = export(ExportConfig(tiny_checkpoint("bert", ""), tmp_path / "model.onnx"))
    assert document["left_out"] == {
        "outputs": {"pooler_output": "exported is last_hidden_state"},
        "weights": dict.fromkeys(("pooler.dense.weight", "pooler.dense.bias"), "only pooler_output needs it"),
    }
    stored = {tensor.name for tensor in onnx.load(tmp_path / "model.onnx").graph.initializer}
    assert not any("pooler" in name for name in stored)
    lines = verdict(document).splitlines()
    assert "output pooler_output skipped: exported is last_hidden_state" in lines
    assert "2 weights skipped: pooler.dense.weight, pooler.dense.bias; only pooler_output needs it" in lines


@pytest.mark.parametrize(
    ("family", "head"),
    [
        ("bert", "SequenceClassification"),
        ("distilbert", ""),
        ("roberta", "MaskedLM"),
        ("bert", "QuestionAnswering"),
    ],
)
def test_nothing_is_left_out_of_these(tiny_checkpoint: Checkpoints, family: str, head: str) -> None:
    assert left_out(load_reference(tiny_checkpoint(family, head))) == {"outputs": {}, "weights": {}}


def test_weights_that_nothing_needs(tiny_checkpoint: Checkpoints) -> None:
    import torch

    source = load_reference(tiny_checkpoint())
    source.model.spare = torch.nn.Linear(2, 2, bias=False)
    source.model.classifier.bias.requires_grad_(False)
    assert left_out(source) == {"outputs": {}, "weights": {"spare.weight": "no output needs it"}}
    assert not source.model.classifier.bias.requires_grad
