"""docs/exporters.md agrees with what the export does; tools/exporters.py writes it."""

from __future__ import annotations

from pathlib import Path

import exporters
import pytest
from exporters import DOCUMENT, EXPORTERS, FUSED, KINDS, UNFUSED

# Every exporter once, and every model.
QUICK = {
    "TorchScript, opset 11, eager attention": "bert",
    "TorchScript, opset 14, sdpa": "xlm-roberta",
    "TorchScript, opset 17, eager attention": "mpnet",
    "torch.export, opset 18, sdpa": "electra",
    "ONNX Runtime optimizer": "distilbert",
    "ONNX Runtime optimizer, no EmbedLayerNormalization": "roberta",
    "ONNX Runtime optimizer, half precision": "bert",
}


def stated(exporter: str, kind: str) -> str:
    """What the document says, without the number of the note."""
    row = next(line for line in DOCUMENT.read_text().splitlines() if line.startswith(f"| {exporter} |"))
    return row.split("|")[2 + KINDS.index(kind)].split("(")[0].strip()


@pytest.mark.parametrize("exporter", QUICK)
def test_files_of_other_exporters_are_fused(exporter: str, tmp_path: Path) -> None:
    kind = QUICK[exporter]
    exporters.write(kind, exporter, tmp_path / "model.onnx")
    status, why = exporters.outcome(tmp_path / "model.onnx")
    # MPNet adds a bias of relative positions to the scores, which no kernel knows.
    assert (status, why) == (FUSED, "") if kind != "mpnet" else status == UNFUSED
    assert status == stated(exporter, kind)


@pytest.mark.slow
@pytest.mark.parametrize("exporter", EXPORTERS)
@pytest.mark.parametrize("kind", KINDS)
def test_document_says_what_the_export_does(exporter: str, kind: str, tmp_path: Path) -> None:
    exporters.write(kind, exporter, tmp_path / "model.onnx")
    assert exporters.outcome(tmp_path / "model.onnx")[0] == stated(exporter, kind)


def test_document_has_every_exporter_and_model() -> None:
    for exporter in EXPORTERS:
        for kind in KINDS:
            assert stated(exporter, kind)
