"""The contract of every task, tested on data generated from its own declaration."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from aerogel.data.hub import HubTable
from aerogel.data.sequence import SequenceTask
from aerogel.data.table import TableTask
from aerogel.data.tasks import TASKS
from aerogel.train.run import TrainConfig, train

TABLES = [name for name in TASKS.names() if isinstance(TASKS.get(name), TableTask)]
WORDS = ["good", "bad", "film", "not", "very", "the"]


def write(task: TableTask, folder: Path, rows: int = 24) -> Path:
    """Write the files of `task` with its columns, cycling labels and an unused column."""
    folder.mkdir()
    header = list(task.header or ("unused", *task.texts, task.label))
    values = task.labels or tuple(str(n / 4) for n in range(int(task.value_range[1]) * 4 + 1))
    for name in (task.train, *(name for _, name in task.evaluation)):
        lines = [] if task.header else ["\t".join(header)]
        for row in range(rows):
            fields = dict.fromkeys(header, "-") | {task.label: values[row % len(values)]}
            for at, column in enumerate(task.texts):
                fields[column] = " ".join(
                    WORDS[(row * 7 + at + n * n) % len(WORDS)] for n in range(1 + row % 5)
                )
            lines.append("\t".join(fields[column] for column in header))
        (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def test_tasks_of_the_first_release_exist() -> None:
    assert {"cola", "mnli", "mrpc", "qnli", "qqp", "rte", "sst2", "stsb", "synthetic"} <= set(TASKS.names())


@pytest.mark.parametrize("name", [*TABLES, "synthetic"])
def test_perfect_predictions_score_one(name: str) -> None:
    task: SequenceTask = TASKS.get(name)
    labels = np.array([0, 1, 1, 0, 1]) if task.labels else np.array([0.0, 1.5, 5.0, 2.0, 4.5], np.float32)
    metrics = task.metrics(labels, labels)
    assert metrics
    assert all(value == pytest.approx(1.0) for value in metrics.values())


@pytest.mark.parametrize("name", TABLES)
def test_table_keeps_the_order_of_rows(name: str, tmp_path: Path) -> None:
    task = TASKS.get(name)
    data = task.load(write(task, tmp_path / "data"))
    assert set(data.evaluation) == {split for split, _ in task.evaluation}
    for split in (data.train, *data.evaluation.values()):
        assert len(split) == len(split.texts) == 24
        assert {len(texts) for texts in split.texts} == {len(task.texts)}
    if task.labels:
        assert data.train.labels == [row % len(task.labels) for row in range(24)]
    else:
        assert data.train.labels[:3] == [0.0, 0.25, 0.5]


@pytest.mark.parametrize("name", TABLES)
def test_hub_and_files_agree_on_splits_and_sentences(name: str) -> None:
    task = TASKS.get(name)
    assert isinstance(task.hub, HubTable)
    assert len(task.hub.texts) == len(task.texts)
    assert [split for split, _ in task.hub.evaluation] == [split for split, _ in task.evaluation]


@pytest.mark.parametrize("name", TABLES)
def test_model_trains_on_the_task(name: str, tmp_path: Path, tiny_checkpoint: Callable[..., Path]) -> None:
    task = TASKS.get(name)
    result = train(
        TrainConfig(
            task=name, out=tmp_path / "out", model=str(tiny_checkpoint(density=1.0)), method="movement", density=0.5,
            data=write(task, tmp_path / "data"), epochs=2, batch=6, max_length=16, threads=1, device="cpu",
        )
    )  # fmt: skip
    splits = [split for split, _ in task.evaluation]
    assert {name.partition("_")[2] for name in result.record.metrics} == set(splits)
    assert all(-1.0 <= value <= 1.0 for value in result.record.metrics.values())


def test_synthetic_task_needs_neither_data_nor_model(tmp_path: Path) -> None:
    result = train(
        TrainConfig(
            task="synthetic", out=tmp_path / "out", method="movement", density=0.1, epochs=1, batch=8,
            train_rows=160, threads=1, device="cpu",
        )
    )  # fmt: skip
    assert len(result.masks) == 18
    assert result.accounting.density == pytest.approx(0.1, abs=1e-4)
