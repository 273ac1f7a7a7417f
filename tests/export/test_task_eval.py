from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aerogel import checkpoint
from aerogel.data.split import Split
from aerogel.data.tasks import TASKS
from aerogel.errors import AerogelError, DataError, ExportError, ParityError, UsageError
from aerogel.export.config import ExportConfig
from aerogel.export.run import export
from aerogel.export.task_eval import TaskEval, load_task_eval

Once = Callable[..., Path]
# A text's length says which row it is.
ROWS = [5, 1, 7, 3, 2, 6, 4, 0, *range(8, 40)]


@dataclass
class Lengths:
    """A tokenizer whose tokens are the lengths of texts."""

    asked_length: int | None = None
    model_input_names = ("input_ids", "unused")
    pad_token_id = pad_token_type_id = 0

    def num_special_tokens_to_add(self, pair: bool) -> int:
        return 2 + pair

    def __call__(
        self, texts: list[str], pairs: list[str] | None = None, *, truncation: bool, max_length: int
    ) -> dict[str, list[list[int]]]:
        assert truncation
        assert pairs is None or pairs == texts
        self.asked_length = max_length
        return {"input_ids": [[len(text)] for text in texts], "unused": [[9] for _ in texts]}


@dataclass
class Fake:
    """A source that PyTorch must not be asked for."""

    max_length: int = 64
    tokenizer: Lengths = field(default_factory=Lengths)
    inputs = ("input_ids",)

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        pytest.fail(f"PyTorch ran {inputs}")


def split(labels: list[int] | list[float], pair: bool = False) -> Split:
    texts = [("x" * row,) * (1 + pair) for row in ROWS[: len(labels)]]
    return Split(texts, labels, "0" * 64)


def trial(task: str, splits: dict[str, Split], **changes: Any) -> TaskEval:
    made = TaskEval(task, TASKS.get(task), splits, TASKS.get(task).labels, {"accuracy": 0.75}, None, 0.5)
    return replace(made, **changes)


def odd(inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Says class 1 to rows of odd number."""
    rows = inputs["input_ids"][:, 0] % 2
    return {"logits": np.stack([1 - rows, rows], 1).astype(np.float32)}


def test_logits_meet_the_labels_of_their_own_rows() -> None:
    # Rows 5, 1, 7, 3 are odd, 2, 6 and 4 are not, so all but the last two labels are right.
    steps: list[tuple[str, int, int]] = []
    found = trial("sst2", {"": split([1, 1, 1, 1, 0, 0, 1, 1])}).hold(
        Fake(), "it", odd, lambda *step: steps.append(step)
    )  # type: ignore[arg-type]
    assert found["metrics"] == {"accuracy": 6 / 8}
    assert found["checkpoint"] == {"accuracy": 0.75}
    assert (found["name"], found["runner"], found["rows"]) == ("sst2", "it", {"": 8})
    assert found["checkpoint_from"] == "aerogel.json"
    assert steps == [("task", 8, 8)]


def test_more_rows_than_run_at_once() -> None:
    labels = [row % 2 for row in ROWS]
    steps: list[int] = []
    found = trial("sst2", {"": split(labels)}).hold(Fake(), "it", odd, lambda _, done, __: steps.append(done))  # type: ignore[arg-type]
    assert found["metrics"] == {"accuracy": 1.0}
    assert steps == [32, 40]


@pytest.mark.parametrize(("known", "passes"), [(0.755, True), (0.7551, False), (0.5, True)])
def test_a_loss_beyond_what_is_allowed_fails(known: float, passes: bool) -> None:
    made = trial("sst2", {"": split([1, 1, 1, 1, 0, 0, 1, 1])}, known={"accuracy": known})
    if passes:
        made.hold(Fake(), "it", odd)  # type: ignore[arg-type]
        return
    with pytest.raises(
        ParityError,
        match=r"accuracy on sst2 is 75\.00 where the checkpoint has 75\.51, and a drop of 0\.5 is allowed",
    ):
        made.hold(Fake(), "it", odd)  # type: ignore[arg-type]
    replace(made, allowed_drop=0.52).hold(Fake(), "it", odd)  # type: ignore[arg-type]


@pytest.mark.parametrize("known", [None, {"other": 0.9}])
def test_an_unknown_metric_of_the_checkpoint_is_measured(known: dict[str, float] | None) -> None:
    @dataclass
    class Wrong(Fake):
        def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
            return {"logits": odd(inputs)["logits"][:, ::-1]}

    found = trial("sst2", {"": split([1, 1, 0, 1])}, known=known).hold(Wrong(), "it", odd)  # type: ignore[arg-type]
    assert (found["metrics"], found["checkpoint"]) == ({"accuracy": 3 / 4}, {"accuracy": 1 / 4})
    assert found["checkpoint_from"] == "PyTorch"


def test_several_splits_pairs_and_the_records_length() -> None:
    def third(inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {"logits": np.eye(3, dtype=np.float32)[inputs["input_ids"][:, 0] % 3]}

    splits = {"matched": split([2, 1, 1], pair=True), "mismatched": split([2, 0, 0, 0], pair=True)}
    known = {"accuracy_matched": 1.0, "accuracy_mismatched": 0.5}
    source = Fake()
    made = trial("mnli", splits, known=known, max_length=16)
    found = made.hold(source, "it", third)  # type: ignore[arg-type]
    assert found["metrics"] == {"accuracy_matched": 1.0, "accuracy_mismatched": 0.5}
    assert found["rows"] == {"matched": 3, "mismatched": 4}
    assert source.tokenizer.asked_length == 16
    replace(made, max_length=1000).hold(source, "it", third)  # type: ignore[arg-type]
    assert source.tokenizer.asked_length == 64


def test_a_regression_is_judged_by_its_value() -> None:
    def value(inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {"logits": inputs["input_ids"].astype(np.float32)}

    known = {"pearson": 1.0, "spearman": 1.0}
    found = trial("stsb", {"": split([2.5, 0.5, 3.5, 1.5])}, known=known).hold(Fake(), "it", value)  # type: ignore[arg-type]
    assert found["metrics"] == pytest.approx(known)


def test_a_metric_that_is_no_number_fails() -> None:
    def broken(inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {"logits": np.full(inputs["input_ids"].shape, np.nan, np.float32)}

    made = trial("stsb", {"": split([2.5, 0.5, 3.5, 1.5])}, known={"pearson": 0.9, "spearman": 0.9})
    with pytest.raises(ParityError, match=r"pearson on stsb is nan where the checkpoint has 90\.00"):
        made.hold(Fake(), "it", broken)  # type: ignore[arg-type]


@pytest.mark.parametrize(("output", "what"), [("logits", r"logits \[3, 2\]"), ("hidden", "hidden")])
def test_outputs_that_are_not_the_tasks_are_refused(output: str, what: str) -> None:
    made = trial("mnli", {"matched": split([2, 1, 1], pair=True)})
    with pytest.raises(ExportError, match=rf"gives {what} where mnli takes logits \[3, 3\]"):
        made.hold(Fake(), "it", lambda inputs: {output: odd(inputs)["logits"]})  # type: ignore[arg-type]


def with_record(path: Path, folder: Path, **fields: Any) -> Path:
    """A copy of a checkpoint with other entries in its record."""
    shutil.copytree(path, folder)
    file = folder / "aerogel.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))
    return folder


def test_the_records_metrics_count_on_its_own_data_only(
    tiny_checkpoint: Once, sentiment: Once, tmp_path: Path
) -> None:
    data = sentiment()
    digest = TASKS.get("sst2").load(data).evaluation[""].sha256
    for number, (sha256, rows, length, known) in enumerate(
        [
            (digest, 16, 9, {"accuracy": 0.5}),
            (digest, 8, 0, None),
            ("other", 16, -1, None),
            (None, 16, "9", None),
        ]
    ):
        path = with_record(
            tiny_checkpoint(), tmp_path / str(number), task="sst2", metrics={"accuracy": 0.5},
            data={"evaluation": {"rows": rows, "sha256": sha256}}, config={"max_length": length},
        )  # fmt: skip
        made = load_task_eval(checkpoint.load(path), data)
        assert made.known == known
        assert made.max_length == (9 if known else None)
        assert len(made.splits[""]) == 16


@pytest.mark.parametrize(
    ("task", "data", "drop", "error", "message"),
    [
        (None, None, 0.5, UsageError, "names no task; compare with --verify-text"),
        ("sst3", None, 0.5, UsageError, "unknown task 'sst3'.*did you mean sst2"),
        ("sst2", "nowhere", 0.5, UsageError, "nowhere is not a directory"),
        ("sst2", ".", 0.5, DataError, "neither train.tsv nor"),
        ("synthetic", ".", 0.5, UsageError, "generates its own data"),
        ("sst2", None, -1.0, UsageError, "--max-metric-drop -1"),
        ("sst2", None, float("nan"), UsageError, "--max-metric-drop nan"),
    ],
)
def test_bad_requests(
    tiny_checkpoint: Once, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: str | None, data: str | None,
    drop: float, error: type[AerogelError], message: str,
) -> None:  # fmt: skip
    path = with_record(tiny_checkpoint(), tmp_path / "ckpt", task=task)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=message):
        load_task_eval(checkpoint.load(path), Path(data) if data else None, drop)


def test_an_export_is_measured_and_a_bad_one_is_not_written(
    captured: Callable[..., Any], sentiment: Once, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from aerogel.export import capture, torch_reference

    made, loaded, model = captured("bert")
    path = with_record(made, tmp_path / "ckpt", task="sst2")
    monkeypatch.setattr(torch_reference, "load_reference", lambda _: loaded)
    monkeypatch.setattr(capture, "capture", lambda _: model)
    config = ExportConfig(
        path, tmp_path / "out" / "m.onnx", weights="fp16", verify_task=True, task_data=sentiment()
    )
    document = export(config)
    assert document["task"]["metrics"] == document["task"]["checkpoint"]
    assert (document["task"]["runner"], document["task"]["checkpoint_from"]) == ("aerogel", "PyTorch")

    monkeypatch.setattr(capture, "capture", lambda _: captured("bert")[2])
    known = {"metrics": {"accuracy": 1.0}, "data": {"evaluation": {"sha256": sha256_of(config), "rows": 16}}}
    (path / "aerogel.json").write_text(json.dumps(json.loads((path / "aerogel.json").read_text()) | known))
    with pytest.raises(ParityError, match=r"accuracy on sst2 is .* where the checkpoint has 100\.00"):
        export(replace(config, out=tmp_path / "bad" / "m.onnx"))
    assert not (tmp_path / "bad").exists()
    allowed = export(replace(config, out=tmp_path / "bad" / "m.onnx", max_metric_drop=100.0))
    assert allowed["task"]["checkpoint_from"] == "aerogel.json"


QUESTIONS = {
    "data": [
        {
            "title": "t",
            "paragraphs": [
                {
                    "context": "the film was very good and it was not bad " * 3,
                    "qas": [
                        {
                            "id": str(start),
                            "question": "is it good",
                            "answers": [{"text": text, "answer_start": start}],
                        }
                        for text, start in (("film", 4), ("good", 18), ("was", 9))
                    ],
                }
            ],
        }
    ]
}


@pytest.mark.parametrize(
    ("task", "head", "classes", "files"),
    [
        (
            "squad",
            "QuestionAnswering",
            2,
            {f"{name}-v1.1.json": json.dumps(QUESTIONS) for name in ("train", "dev")},
        ),
        (
            "ner",
            "TokenClassification",
            3,
            {f"{n}.txt": "the O\ngood B-X\n\nfilm I-X\n" for n in ("train", "dev")},
        ),
    ],
)
def test_answers_and_tags_are_measured_too(
    captured: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: str, head: str, classes: int,
    files: dict[str, str],
) -> None:  # fmt: skip
    from aerogel.export import capture, torch_reference

    made, loaded, model = captured("bert", head, num_labels=classes)
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    path = with_record(made, tmp_path / "ckpt", task=task, config={"max_length": 24})
    monkeypatch.setattr(torch_reference, "load_reference", lambda _: loaded)
    monkeypatch.setattr(capture, "capture", lambda _: model)
    out = tmp_path / "out" / "m.onnx"
    document = export(ExportConfig(path, out, weights="fp16", verify_task=True, task_data=tmp_path))
    assert document["task"]["metrics"] == pytest.approx(document["task"]["checkpoint"])
    assert "f1" in document["task"]["metrics"]


def test_the_records_options_are_not_trusted(tiny_checkpoint: Once, tmp_path: Path) -> None:
    for number, (options, message) in enumerate(
        [
            ({"train": "../x"}, "must be the name of a file"),
            ({"x": 1}, "no such option"),
            ([], "task_options"),
        ]
    ):
        path = with_record(
            tiny_checkpoint(), tmp_path / str(number), task="squad", config={"task_options": options}
        )
        with pytest.raises(UsageError, match=message):
            load_task_eval(checkpoint.load(path), tmp_path)


def sha256_of(config: ExportConfig) -> str:
    return TASKS.get("sst2").load(config.task_data).evaluation[""].sha256


def test_task_data_without_the_check_is_a_mistake(tiny_checkpoint: Once, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--task-data is for --verify-task"):
        export(ExportConfig(tiny_checkpoint(), tmp_path / "m.onnx", task_data=tmp_path))
