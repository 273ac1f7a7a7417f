from __future__ import annotations

import copy
import gzip
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pytest

from aerogel.data.qa.question import Question, read_squad
from aerogel.data.tasks import TASKS
from aerogel.errors import DataError, UsageError

CONTEXT = "Zoë\u2019s café sells tea. It opened in 1911."


def document() -> dict[str, Any]:
    def entry(name: str, text: str) -> dict[str, Any]:
        answer = {"text": text, "answer_start": CONTEXT.index(text)}
        return {"id": name, "question": f"which {name}?", "answers": [answer, answer]}

    entries = [entry("what", "tea"), entry("when", "1911")]
    return {"version": "1.1", "data": [{"title": "t", "paragraphs": [{"context": CONTEXT, "qas": entries}]}]}


def first(made: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = made["data"][0]["paragraphs"][0]["qas"][0]
    return found


def write(folder: Path, made: Any, name: str = "train-v1.1.json") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(json.dumps(made), encoding="utf-8")
    return folder / name


def test_reads_questions_answers_and_hash(tmp_path: Path) -> None:
    file = write(tmp_path, document())
    split = read_squad(file, unanswerable=False, train=True)
    assert split.texts == [("which what?", CONTEXT), ("which when?", CONTEXT)]
    assert split.labels == [Question("what", ("tea", "tea"), 17), Question("when", ("1911", "1911"), 35)]
    assert split.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert split.skipped == 0
    packed = tmp_path / "packed.json.gz"
    packed.write_bytes(gzip.compress(file.read_bytes()))
    assert read_squad(packed, unanswerable=False, train=True) == split


def test_training_skips_and_counts_answers_that_are_not_at_their_start(tmp_path: Path) -> None:
    made = document()
    first(made)["answers"][0]["answer_start"] += 1
    file = write(tmp_path, made)
    split = read_squad(file, unanswerable=False, train=True)
    assert ([label.id for label in split.labels], split.skipped) == (["when"], 1)
    assert len(read_squad(file, unanswerable=False, train=False)) == 2
    made["data"][0]["paragraphs"][0]["qas"].pop()
    with pytest.raises(DataError, match="has no usable questions: 1 were skipped"):
        read_squad(write(tmp_path, made), unanswerable=False, train=True)


def test_version_2_has_questions_without_an_answer(tmp_path: Path) -> None:
    made = document()
    first(made).update(answers=[], is_impossible=True, plausible_answers=[{"text": "It", "answer_start": 22}])
    split = read_squad(write(tmp_path, made), unanswerable=True, train=True)
    assert split.labels[0] == Question("what", ())
    with pytest.raises(DataError, match=r"qas\[0\]: no answers; use --task squad-v2"):
        read_squad(tmp_path / "train-v1.1.json", unanswerable=False, train=False)


def change(where: Callable[[dict[str, Any]], Any], **values: Any) -> Callable[[dict[str, Any]], None]:
    return lambda made: where(made).update(values)


def paragraph(made: dict[str, Any]) -> Any:
    return made["data"][0]["paragraphs"][0]


def answer(made: dict[str, Any]) -> Any:
    return first(made)["answers"][0]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            change(lambda made: made, data=None),
            r"v1\.1\.json has no list 'data'; give a file in SQuAD's format",
        ),
        (change(lambda made: made, data=[]), "has no usable questions"),
        (change(lambda made: made, data=[3]), r"json: data\[0\] is not an object"),
        (change(lambda made: made["data"][0], paragraphs={}), r"data\[0\] has no list 'paragraphs'"),
        (change(paragraph, qas="x"), r"data\[0\]\.paragraphs\[0\] has no list 'qas'"),
        (change(paragraph, context=None), r"paragraphs\[0\]\.qas\[0\]: 'context' is not text"),
        (change(first, id=7), r"qas\[0\]: 'id' is not text"),
        (change(first, id="when"), r"qas\[1\]: id 'when' occurs twice"),
        (change(first, question=["x"]), "'question' is not text"),
        (change(first, answers=None), r"qas\[0\] has no list 'answers'"),
        (change(first, answers=["tea"]), r"qas\[0\]\.answers\[0\] is not an object"),
        (change(first, is_impossible=True), "is_impossible True contradicts 2 answers"),
        (change(first, is_impossible="no"), "is_impossible 'no' contradicts 2 answers"),
        (
            change(answer, answer_start=True),
            "an answer must have a string 'text' and an integer 'answer_start'",
        ),
        (
            change(answer, answer_start="17"),
            "an answer must have a string 'text' and an integer 'answer_start'",
        ),
        (
            change(first, question="a \ud800 b"),
            r"qas\[0\]: 'question' has half of a surrogate pair at character 2",
        ),
        (change(paragraph, context="\udfff" * 40), "'context' has half of a surrogate pair at character 0"),
        (change(answer, text="\ud800"), "'text' has half of a surrogate pair"),
        (change(answer, text=None), "an answer must have a string 'text' and an integer 'answer_start'"),
        (change(answer, answer_start=-1), "answer_start -1 is outside the context, which has 40 characters"),
        (change(answer, answer_start=40), "answer_start 40 is outside the context"),
        (change(answer, answer_start=10**30), "does not fit into 64 bits"),
    ],
)
def test_rejects_malformed_files_with_the_location(
    tmp_path: Path, damage: Callable[[dict[str, Any]], None], message: str
) -> None:
    made = copy.deepcopy(document())
    damage(made)
    with pytest.raises(DataError, match=message):
        read_squad(write(tmp_path, made), unanswerable=False, train=True)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"x\.json is not valid JSON \(it is not JSON: Expecting value"),
        (
            json.dumps(document()).encode()[:-9],
            r"x\.json is not valid JSON \(it is not JSON: Expecting .* line 1",
        ),
        (b"[" * 100_000, r"x\.json is not valid JSON"),
        (b"[]", "has no list 'data'"),
        (b'{"a":\n"caf\xe9"}', r"x\.json:2: not UTF-8"),
    ],
)
def test_rejects_files_that_are_not_json(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        read_squad(tmp_path / "x.json", unanswerable=False, train=True)
    assert "\n" not in str(caught.value)


def test_task_reads_the_default_or_the_given_files(tmp_path: Path) -> None:
    write(tmp_path / "data", document())
    write(tmp_path / "data", document(), "dev-v1.1.json")
    data = TASKS.get("squad").load(tmp_path / "data")
    assert (len(data.train), len(data.evaluation[""]), data.labels) == (2, 2, None)
    write(tmp_path / "data", document(), "mine.json")
    task = TASKS.get("squad-v2").configured({"train": "mine.json", "dev": "mine.json"}, "squad-v2")
    assert len(task.load(tmp_path / "data").train) == 2
    with pytest.raises(DataError, match=r"neither train-v2\.0\.json nor"):
        TASKS.get("squad-v2").load(tmp_path / "data")
    with pytest.raises(
        UsageError, match=r"nowhere is not a directory; give the directory that contains train-v1\.1"
    ):
        TASKS.get("squad").load(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"train": "../x.json"}, "--task-option train=../x.json: must be the name of a file in --data"),
        ({"dev": ""}, "--task-option dev=: must be the name"),
        ({"stride": "0"}, "--task-option stride=0: must be at least 1"),
        ({"stride": "many"}, "--task-option stride=many: must be a whole number"),
        (
            {"nbest": "3"},
            "--task-option nbest: task squad has no such option; known: dev, longest_answer, n_best",
        ),
    ],
)
def test_options_are_checked(options: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        TASKS.get("squad").configured(options, "squad")


def rows(**changes: Any) -> dict[str, list[Any]]:
    return {
        "id": ["a", "b"],
        "question": ["what?", "when?"],
        "context": [CONTEXT, CONTEXT],
        "answers": [{"text": ["tea"], "answer_start": [17]}, {"text": ["1911"], "answer_start": [35]}],
    } | changes


def saved(folder: Path, made: dict[str, list[Any]]) -> Path:
    table = datasets.Dataset.from_dict(made)
    datasets.DatasetDict(train=table, validation=table).save_to_disk(folder)
    return folder


def test_a_saved_dataset_has_the_same_questions(tmp_path: Path) -> None:
    data = TASKS.get("squad").load(saved(tmp_path / "saved", rows()))
    assert data.train.texts == [("what?", CONTEXT), ("when?", CONTEXT)]
    assert data.evaluation[""].labels == [Question("a", ("tea",), 17), Question("b", ("1911",), 35)]
    none = {"text": [], "answer_start": []}
    other = saved(tmp_path / "other", rows(answers=[none, {"text": ["1911"], "answer_start": [35]}]))
    assert TASKS.get("squad-v2").load(other).train.labels[0] == Question("a", ())
    with pytest.raises(DataError, match="split 'train', row 0: no answers"):
        TASKS.get("squad").load(other)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"id": ["a", "a"]}, "row 1: id 'a' occurs twice"),
        (
            {"answers": ["tea", "1911"]},
            "row 0: answers must have lists text and answer_start of equal length",
        ),
        ({"context": [None, "x"]}, "row 0: 'context' is not text"),
        (
            {"context": ["tea", CONTEXT]},
            "row 0: answer_start 17 is outside the context, which has 3 characters",
        ),
    ],
)
def test_rejects_bad_datasets_with_the_row(
    tmp_path: Path, changes: dict[str, list[Any]], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        TASKS.get("squad").load(saved(tmp_path / "saved", rows(**changes)))
