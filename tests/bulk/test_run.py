from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import aerogel
from aerogel.bulk.method import METHODS, Method, Options
from aerogel.bulk.run import BulkConfig, run_bulk
from aerogel.bulk.work import Loading
from aerogel.errors import AerogelError, DataError, HeadError, UsageError

TEXTS = ["one two three four", "two", "three one", "", "four four four", "one"]
MASKED = ["one [MASK]", "[MASK] two three"]


@pytest.fixture
def rows(tmp_path: Path) -> Callable[..., Path]:
    def make(**columns: list[Any]) -> Path:
        path = tmp_path / "in.jsonl"
        names = list(columns)
        lines = [
            json.dumps(dict(zip(names, row, strict=True))) for row in zip(*columns.values(), strict=True)
        ]
        path.write_text("\n".join(lines) + "\n")
        return path

    return make


def small(monkeypatch: pytest.MonkeyPatch, size: int = 4) -> None:
    for name in METHODS.names():
        monkeypatch.setattr(type(METHODS.get(name)), "window", size)


def read(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".parquet":
        return list(pq.read_table(path).to_pylist())
    return [json.loads(line) for line in path.read_text().splitlines()]


def plain(value: Any) -> Any:
    return json.loads(json.dumps(value, default=lambda item: item.tolist()))


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("suffix", ["npy", "jsonl", "parquet"])
def test_vectors_are_those_of_the_model_in_the_order_of_the_rows(
    tmp_path: Path, toy: Callable[..., Path], rows: Callable[..., Path], monkeypatch: pytest.MonkeyPatch,
    suffix: str, workers: int,
) -> None:  # fmt: skip
    small(monkeypatch)
    texts = TEXTS * 5
    out = tmp_path / f"out.{suffix}"
    seen: list[int] = []
    config = BulkConfig(Loading(toy()), [rows(text=texts)], out, workers=workers)
    assert run_bulk(config, lambda count, _: seen.append(count)) == len(texts)
    expected = aerogel.load(toy(), threads=1).embed(texts)
    found = np.load(out) if suffix == "npy" else np.array([row["embedding"] for row in read(out)], np.float32)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected)
    assert seen == [*range(0, 30, 4), 30]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl", f"out.{suffix}"]


CASES: list[tuple[str, str, str | None, Callable[[aerogel.Model], list[dict[str, Any]]]]] = [
    ("tokens", "embed-tokens", "embed-tokens", lambda m: [{"vectors": v} for v in m.embed_tokens(TEXTS)]),
    ("tokens", "embed", None, lambda m: [{"embedding": v} for v in m.embed(TEXTS)]),
    ("classifier", "classify", None, lambda m: [
        {"label": found[0].label, "score": found[0].score, "labels": [one._asdict() for one in found]}
        for found in m.classify(TEXTS)
    ]),
    ("tagger", "tag", None, lambda m: [
        {"spans": [span._asdict() for span in spans]} for spans in m.tag(TEXTS)
    ]),
]  # fmt: skip


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
@pytest.mark.parametrize(("head", "name", "method", "expected"), CASES, ids=[case[1] for case in CASES])
def test_results_of_each_head(
    tmp_path: Path, toy: Callable[..., Path], rows: Callable[..., Path], suffix: str,
    head: str, name: str, method: str | None, expected: Callable[[aerogel.Model], list[dict[str, Any]]],
) -> None:  # fmt: skip
    out = tmp_path / f"out.{suffix}"
    run_bulk(BulkConfig(Loading(toy(head)), [rows(text=TEXTS)], out, method=method))
    wanted = plain(expected(aerogel.load(toy(head), threads=1)))
    found = read(out)
    assert [list(row) for row in found] == [list(METHODS.get(name).columns)] * len(TEXTS)
    for one, two in zip(found, wanted, strict=True):
        assert one == approximately(two)


def approximately(value: Any) -> Any:
    """float32 values have other decimals in JSON."""
    if isinstance(value, dict):
        return {key: approximately(item) for key, item in value.items()}
    if isinstance(value, list):
        return [approximately(item) for item in value]
    return pytest.approx(value, rel=1e-6) if isinstance(value, float) else value


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_pairs_are_scored_in_the_order_of_the_rows(
    tmp_path: Path, toy: Callable[..., Path], rows: Callable[..., Path], suffix: str
) -> None:
    out = tmp_path / f"out.{suffix}"
    source = rows(q=["one", "one", "two"], d=["two", "three four", "one"])
    run_bulk(BulkConfig(Loading(toy("reranker")), [source], out, columns=["q", "d"]))
    model = aerogel.load(toy("reranker"), threads=1)
    expected = [item.score for item in sorted(model.rerank("one", ["two", "three four"]))]
    assert [row["score"] for row in read(out)] == [*expected, model.rerank("two", ["one"])[0].score]


def test_answers_and_masks_are_computed_row_by_row(
    tmp_path: Path, toy: Callable[..., Path], rows: Callable[..., Path]
) -> None:
    out = tmp_path / "out.parquet"
    source = rows(question=["one", "two"], context=["two three four", "one"])
    run_bulk(
        BulkConfig(
            Loading(toy("answerer")), [source], out, columns=["question", "context"], options=Options(top_k=2)
        )
    )
    model = aerogel.load(toy("answerer"), threads=1)
    assert read(out)[0]["answers"] == [a._asdict() for a in model.answer("one", "two three four", top_k=2)]
    run_bulk(BulkConfig(Loading(toy("filler")), [rows(text=MASKED)], out))
    filler = aerogel.load(toy("filler"), threads=1)
    assert [row["tokens"] for row in read(out)] == [
        [t._asdict() for t in filler.fill_mask(x)] for x in MASKED
    ]


def test_a_row_that_the_model_refuses_is_named(
    tmp_path: Path, toy: Callable[..., Path], rows: Callable[..., Path]
) -> None:
    config = BulkConfig(Loading(toy("filler")), [rows(text=["one [MASK]", "one"])], tmp_path / "out.jsonl")
    with pytest.raises(DataError, match=r"in.jsonl:2: text has 0 mask tokens"):
        run_bulk(config)


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_kept_columns_are_copied(
    tmp_path: Path, toy: Callable[..., Path], rows: Callable[..., Path], suffix: str
) -> None:
    out = tmp_path / f"out.{suffix}"
    ids = [7, "x", None, 1.5, True, {"a": ["é"]}]
    run_bulk(BulkConfig(Loading(toy()), [rows(id=ids, text=TEXTS)], out, keep=["id", "text", "id"]))
    found = read(out)
    assert list(found[0]) == ["id", "text", "embedding"]
    expected = ids if suffix == "jsonl" else ["7", "x", None, "1.5", "true", '{"a": ["é"]}']
    assert [row["id"] for row in found] == expected
    assert [row["text"] for row in found] == TEXTS


def test_kept_columns_of_parquet_files_have_their_types(tmp_path: Path, toy: Callable[..., Path]) -> None:
    table = pa.table(
        {"n": pa.array([1, None, 3], pa.int16()), "text": ["one", "two", ""], "b": [b"\0", b"", None]}
    )
    pq.write_table(table, tmp_path / "in.parquet")
    out = tmp_path / "out.parquet"
    run_bulk(BulkConfig(Loading(toy()), [tmp_path / "in.parquet"], out, keep=["n", "b"]))
    found = pq.read_table(out)
    assert found.schema.field("n").type == pa.int16()
    assert found.select(["n", "b"]).to_pylist() == table.select(["n", "b"]).to_pylist()
    with pytest.raises(DataError, match="--keep: a value of b cannot be stored in JSON"):
        run_bulk(BulkConfig(Loading(toy()), [tmp_path / "in.parquet"], tmp_path / "out.jsonl", keep=["b"]))


def test_a_pipe_gets_json_lines(tmp_path: Path, toy: Callable[..., Path], rows: Callable[..., Path]) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read_bytes: list[bytes] = []
    reader = threading.Thread(target=lambda: read_bytes.append(pipe.read_bytes()), daemon=True)
    reader.start()
    run_bulk(BulkConfig(Loading(toy()), [rows(text=TEXTS)], pipe))
    reader.join(timeout=20)
    run_bulk(BulkConfig(Loading(toy()), [rows(text=TEXTS)], tmp_path / "out.jsonl"))
    assert read_bytes[0] == (tmp_path / "out.jsonl").read_bytes()


REFUSED: list[tuple[str, dict[str, Any], type[AerogelError], str]] = [
    ("embedder", {"method": "classify"}, HeadError, "--method classify: .* it has embed"),
    ("embedder", {"method": "embd"}, UsageError, "unknown method 'embd'.*did you mean embed"),
    ("embedder", {"columns": ["text", "id"]}, UsageError, "2 columns are given; embed takes 1 text column"),
    ("answerer", {}, UsageError, "1 column is given; answer takes 2 text columns"),
    ("embedder", {"options": Options(top_k=3)}, UsageError, "--top-k has no effect on embed"),
    ("classifier", {"options": Options(dimensions=3)}, UsageError, "--dimensions has no effect on classify"),
    ("embedder", {"options": Options(dimensions=9)}, UsageError, "dimensions=9"),
    ("embedder", {"out": "out.csv"}, UsageError, r"suffix must be one of .jsonl, .ndjson, .npy, .parquet"),
    ("classifier", {"out": "out.npy"}, UsageError, "npy stores one vector per row"),
    ("embedder", {"out": "out.npy", "keep": ["id"]}, UsageError, "npy stores vectors only"),
    ("embedder", {"keep": ["nope"]}, DataError, "in.jsonl:1: no column 'nope'"),
    ("classifier", {"keep": ["label"]}, UsageError, "--keep label: classify writes a column of that name"),
    ("embedder", {"workers": 0}, UsageError, "--workers 0 is out of range"),
    ("embedder", {"engine": "dask"}, UsageError, "unknown engine 'dask'"),
    ("embedder", {"resume": True, "restart": True}, UsageError, "exclude each other"),
]


@pytest.mark.parametrize(
    ("head", "changes", "kind", "message"), REFUSED, ids=[row[3][:30] for row in REFUSED]
)
def test_wrong_settings_are_refused_before_the_work(
    tmp_path: Path, toy: Callable[..., Path], rows: Callable[..., Path],
    head: str, changes: dict[str, Any], kind: type[AerogelError], message: str,
) -> None:  # fmt: skip
    source = rows(id=["1"], label=["a"], text=["one"])
    changes = {"out": "out.jsonl", **changes}
    changes["out"] = tmp_path / changes["out"]
    with pytest.raises(kind, match=message):
        run_bulk(BulkConfig(Loading(toy(head)), [source], **changes))
    assert not changes["out"].exists()


def test_inputs_without_rows_are_refused(tmp_path: Path, toy: Callable[..., Path]) -> None:
    (tmp_path / "empty.txt").touch()
    with pytest.raises(DataError, match=r"empty.txt: no rows"):
        run_bulk(BulkConfig(Loading(toy()), [tmp_path / "empty.txt"], tmp_path / "out.npy"))


def test_rows_before_a_broken_line_are_kept_and_the_job_continues(
    tmp_path: Path, toy: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    small(monkeypatch, 2)
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    good = '{"text": "one"}\n{"text": "two"}\n{"text": "three"}\n'
    source.write_text(good + "broken\n")
    config = BulkConfig(Loading(toy()), [source], out)
    with pytest.raises(DataError, match=r"in.jsonl:4"):
        run_bulk(config)
    record = json.loads((tmp_path / ".out.jsonl.job" / "progress.json").read_text())
    assert record["rows"] == 2
    source.write_text(good)
    assert run_bulk(BulkConfig(Loading(toy()), [source], out, resume=True)) == 3
    assert len(read(out)) == 3


def test_memory_does_not_grow_with_the_rows(
    tmp_path: Path, toy: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows that are read but not written yet are bounded, whatever the number of rows."""
    small(monkeypatch, 2)
    source = tmp_path / "in.txt"
    source.write_text("one two\n" * 200)
    alive: list[int] = []
    started = [0]
    method = type(METHODS.get("embed"))
    run = method.run

    def counted(self: Method, *words: Any) -> Any:
        started[0] += 1
        return run(self, *words)  # type: ignore[arg-type]

    monkeypatch.setattr(method, "run", counted)
    config = BulkConfig(Loading(toy()), [source], tmp_path / "out.npy", workers=2)
    run_bulk(config, lambda rows, _: alive.append(started[0] - rows // 2))
    assert started[0] == 100
    assert max(alive) <= 2 + 2


def test_parquet_windows_are_joined_to_row_groups(
    tmp_path: Path, toy: Callable[..., Path], rows: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from aerogel.bulk.writers import parquet

    small(monkeypatch)
    monkeypatch.setattr(parquet, "_GROUP_BYTES", 1500)
    run_bulk(BulkConfig(Loading(toy()), [rows(text=TEXTS * 5)], tmp_path / "out.parquet"))
    found = pq.ParquetFile(tmp_path / "out.parquet")
    sizes = [found.metadata.row_group(index).num_rows for index in range(found.num_row_groups)]
    assert sum(sizes) == 30
    assert 1 < len(sizes) < 8
