from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from aerogel.errors import UsageError
from aerogel.export.model_card import check_card, merged_card

BEGIN, END = "<!-- aerogel: begin -->", "<!-- aerogel: end -->"


def manifest(folder: Path, name: str, **fields: Any) -> None:
    (folder / "onnx").mkdir(exist_ok=True)
    document = {
        "aerogel": "0", "file": f"{name}.onnx", "bytes": 2_500_000, "weights": "fp32", "density": 0.1, "matrices": {},
        "prediction": {"reason": "nothing was measured"}, "source": {"kind": "checkpoint"},
        "parity": {"tolerance": 1e-4, "onnxruntime": {"bundled": {"relative": 2e-6}}},
    }  # fmt: skip
    (folder / "onnx" / f"{name}.manifest.json").write_text(json.dumps(document | fields))


def test_a_new_card_has_front_matter_and_a_row_for_each_file(tmp_path: Path) -> None:
    manifest(tmp_path, "model_sparse")
    manifest(tmp_path, "other", density=0.25, weights="int8")
    (tmp_path / "config.json").write_text('{"architectures": ["BertForTokenClassification"]}')
    card = merged_card(tmp_path, None, "org/name")
    front, _, rest = card.removeprefix("---\n").partition("---\n")
    assert front.splitlines()[:3] == [
        "library_name: transformers", "pipeline_tag: token-classification", 'base_model: "org/name"',
    ]  # fmt: skip
    assert "\n# name\n" in rest
    assert "| `onnx/model_sparse.onnx` | 2.5 MB | fp32 | 10.0% | 2e-06 of the largest value |" in rest
    assert "| `onnx/other.onnx` | 2.5 MB | int8 | 25.0% |" in rest
    assert 'name="model_sparse"' in rest
    assert "sentence_transformers" not in rest
    assert "aerogel bench onnx/other.onnx" in rest


def test_a_prediction_is_in_the_card(tmp_path: Path) -> None:
    times = {"stored_us": 3430.0, "dense_us": 9000.0, "ratio": 2.62}
    prediction = {"encoder": times, "linear": times, "batch": 1, "sequence": 128, "threads": 1}
    manifest(tmp_path, "model_sparse", prediction=prediction)
    line = "encoder predicted to take 3.43 ms, 2.62 times as fast as dense; batch 1, 128 tokens, 1 thread."
    assert line in merged_card(tmp_path, None)


@pytest.mark.parametrize(
    ("old", "before", "after"),
    [
        ("", "", ""),
        ("Mine.", "Mine.\n\n", ""),
        ("Mine.\n", "Mine.\n\n", ""),
        (f"a\n{BEGIN}\nold\n{END}\nb", "a\n", "b"),
        (f"a\r\n{BEGIN}\r\nold\r\n{END}\r\nb\r\n", "a\r\n", "b\r\n"),
    ],
)
def test_only_the_text_between_the_markers_changes(tmp_path: Path, old: str, before: str, after: str) -> None:
    manifest(tmp_path, "model_sparse")
    card = merged_card(tmp_path, old)
    assert card.startswith(before + BEGIN)
    assert card.endswith(END + "\n" + after)
    assert "old" not in card
    assert merged_card(tmp_path, card) == card


@pytest.mark.parametrize("text", [BEGIN, END, f"{END}{BEGIN}", f"{BEGIN}{BEGIN}{END}", f"{BEGIN}{END}{END}"])
def test_markers_that_are_not_a_pair_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "README.md").write_text(text)
    with pytest.raises(UsageError, match=r"README\.md must have one"):
        check_card(tmp_path / "README.md")


def test_files_that_are_not_manifests_are_skipped(tmp_path: Path) -> None:
    manifest(tmp_path, "model_sparse")
    (tmp_path / "onnx" / "x.manifest.json").write_text("[" * 100_000)
    manifest(tmp_path, "y", bytes="many")
    card = merged_card(tmp_path, None)
    assert card.count("| `onnx/") == 1


def test_names_from_outside_do_not_leave_their_place(tmp_path: Path) -> None:
    """A manifest that somebody else wrote cannot add lines to the card."""
    manifest(tmp_path, "x", file="a\n# Title `x` | y")
    assert "# Title" not in merged_card(tmp_path, None)
