from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import datasets
import pytest

from aerogel.data.hub import HubTable
from aerogel.data.metrics import accuracy
from aerogel.data.table import TableTask
from aerogel.data.tasks import TASKS
from aerogel.errors import DataError

HUB = HubTable(("sentence",), None)
TASK = TableTask(("text in files",), "label", ("no", "yes"), accuracy, HUB)
ROWS = {"sentence": ["fine", "poor"], "label": [1, 0]}


def save(folder: Path, train: dict[str, list], validation: dict[str, list] | None = ROWS) -> Path:
    splits = {"train": train} | ({"validation": validation} if validation else {})
    datasets.DatasetDict({k: datasets.Dataset.from_dict(v) for k, v in splits.items()}).save_to_disk(folder)
    return folder


def test_reads_a_saved_dataset_by_its_column_names(tmp_path: Path) -> None:
    data = TASK.load(save(tmp_path / "saved", ROWS))
    assert data.train.texts == [("fine",), ("poor",)]
    assert data.train.labels == [1, 0]
    assert data.evaluation[""].sha256 == data.train.sha256


def test_maps_classes_by_name(tmp_path: Path) -> None:
    def saved(name: str, classes: list[str]) -> Path:
        features = datasets.Features(
            {"sentence": datasets.Value("string"), "label": datasets.ClassLabel(names=classes)}
        )
        rows = datasets.Dataset.from_dict(ROWS, features)
        datasets.DatasetDict({"train": rows, "validation": rows}).save_to_disk(tmp_path / name)
        return tmp_path / name

    task = dataclasses.replace(TASK, hub=dataclasses.replace(HUB, classes=("bad", "good")))
    for name, classes, expected in (
        ("same", ["no", "yes"], [1, 0]),
        ("turned", ["yes", "no"], [0, 1]),
        ("hub", ["bad", "good"], [1, 0]),
        ("hub-turned", ["good", "bad"], [0, 1]),
    ):
        assert task.load(saved(name, classes)).train.labels == expected, name
    with pytest.raises(
        DataError, match=r"split 'train': the classes are x, y; rename them to the task's, bad, good"
    ):
        task.load(saved("others", ["x", "y"]))


def test_hash_depends_on_the_rows(tmp_path: Path) -> None:
    other = {"sentence": ["fine", "poor"], "label": [1, 1]}
    data = TASK.load(save(tmp_path / "saved", ROWS, other))
    assert data.evaluation[""].sha256 != data.train.sha256


def test_without_data_the_dataset_is_loaded_by_path_and_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The hub's loader takes local folders as well: the same call, without a network.
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    source = tmp_path / "source"
    source.mkdir()
    for split in ("train", "validation"):
        datasets.Dataset.from_dict(ROWS).to_parquet(source / f"{split}.parquet")
    task = TableTask(("x",), "y", ("no", "yes"), accuracy, HubTable(("sentence",), None, path=str(source)))
    assert task.load(None).train.labels == [1, 0]


@pytest.mark.parametrize(
    ("train", "message"),
    [
        (
            {"text": ["fine"], "label": [1]},
            r"split 'train' has no column 'sentence'; its columns are text, label",
        ),
        (
            {"sentence": ["fine", "odd"], "label": [1, 2]},
            r"split 'train', row 1: label 2 is not one of 0, 1; save",
        ),
        ({"sentence": ["fine"], "label": [-1]}, r"row 0: label -1"),
        ({"sentence": ["fine"], "label": [0.5]}, r"row 0: label 0.5"),
        ({"sentence": ["fine"], "label": ["yes"]}, r"row 0: label 'yes'"),
        ({"sentence": ["fine", None], "label": [1, 1]}, r"row 1: sentence must be text"),
    ],
)
def test_rejects_bad_datasets(tmp_path: Path, train: dict[str, list], message: str) -> None:
    with pytest.raises(DataError, match=message):
        TASK.load(save(tmp_path / "saved", train))


def test_missing_split_is_reported(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"split 'validation' is missing; the dataset has train"):
        TASK.load(save(tmp_path / "saved", ROWS, None))


def test_rejects_split_without_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    empty = datasets.Dataset.from_dict({"sentence": [], "label": []})
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: datasets.DatasetDict(train=empty))
    with pytest.raises(DataError, match="split 'train' has no rows"):
        TASK.load(None)


def test_a_damaged_dataset_is_one_error(tmp_path: Path) -> None:
    (save(tmp_path / "saved", ROWS) / "train" / "state.json").unlink()
    with pytest.raises(DataError, match="cannot load dataset"):
        TASK.load(tmp_path / "saved")


def test_an_unreachable_hub_is_one_error(tmp_path: Path) -> None:
    hub = HubTable(("sentence",), None, path=str(tmp_path / "nowhere"))
    with pytest.raises(
        DataError, match=r"cannot load dataset .*; give a directory of its files, or check the network"
    ):
        TableTask(("x",), "y", ("no", "yes"), accuracy, hub).load(None)


@pytest.mark.parametrize("name", ["sst2", "squad", "ner"])
def test_rejects_folder_with_the_name_of_the_hub_dataset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: pytest.fail("loaded"))
    monkeypatch.chdir(tmp_path)
    task = TASKS.get(name)
    hub: Any = task.hub  # type: ignore[attr-defined]
    folder = Path(hub.path)
    folder.mkdir(parents=True)
    (folder / f"{folder.name}.py").write_text("raise SystemExit('ran')\n")
    with pytest.raises(DataError, match=rf"{folder.resolve()} has the name of the hub dataset {hub.path}"):
        task.load(None)


def test_rejects_dataset_with_a_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    source = tmp_path / "evil"
    source.mkdir()
    (source / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    hub = HubTable(("sentence",), None, path=str(source))
    with pytest.raises(DataError, match="cannot load dataset"):
        dataclasses.replace(TASK, hub=hub).load(None)
    assert not (tmp_path / "ran").exists()
