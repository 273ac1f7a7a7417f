"""The JSON checks, and every JSON reader against the same malformed documents."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aerogel.bench import inputs
from aerogel.bench import schema as bench_document
from aerogel.bench.gpu import results
from aerogel.checkpoint import record
from aerogel.cost import cache
from aerogel.cost.machine import Machine
from aerogel.data.qa.question import read_squad
from aerogel.errors import AerogelError
from aerogel.export import output_dir
from aerogel.sweep import execute
from aerogel.system.cache import CACHE_VARIABLE
from aerogel.system.json_fields import (
    Each,
    Either,
    MalformedJsonError,
    Number,
    OneOf,
    Only,
    check,
    parse,
    read,
)
from aerogel.train.log import _is_log

MALFORMED = {
    "empty": b"",
    "no JSON": b"{",
    "not UTF-8": b'{"schema": "\xff"}',
    "UTF-16": '{"schema": 1}'.encode("utf-16"),
    "NaN": b'{"schema": NaN}',
    "infinite": b'{"schema": -Infinity}',
    "a number that overflows": b'{"schema": 1e999}',
    "a long integer": b'{"schema": 1' + b"0" * 5000 + b"}",
    "an integer above 64 bits": b'{"schema": 18446744073709551616}',
    "a name twice": b'{"schema": 1, "schema": 1}',
    "deep": b'{"schema": ' + b"[" * 100 + b"]" * 100 + b"}",
    "too deep to parse": b"[" * 200_000,
    "a list": b"[]",
    "a number": b"1",
    "null": b"null",
    "no fields": b"{}",
}


@pytest.mark.parametrize("content", MALFORMED.values(), ids=MALFORMED)
def test_malformed_documents_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(MalformedJsonError) as caught:
        read(tmp_path / "x.json", {"schema": int})
    assert len(str(caught.value)) < 200
    assert "\n" not in str(caught.value)


def test_a_file_above_the_size_limit_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_bytes(b" " * 100 + b"{}")
    assert read(tmp_path / "x.json") == {}
    with pytest.raises(MalformedJsonError, match="has 102 bytes, more than 50"):
        read(tmp_path / "x.json", dict, max_bytes=50)


@pytest.mark.parametrize(
    ("schema", "good", "bad", "message"),
    [
        (int, 3, True, "the document is true, not an integer"),
        (int, -(2**63), 1.0, "is 1.0, not an integer"),
        (float, 3, False, "false, not a number"),
        (float, 0.5, "0.5", 'is "0.5", not a number'),
        (bool, True, 1, "1, not true or false"),
        (None, None, 0, "0, not null"),
        (Number(int, 1, 10), 10, 11, "11, not an integer from 1 up to 10"),
        (Number(float, 0), 0, -0.5, "-0.5, not a number from 0"),
        ([int], [], [1, "a"], r'\[1\] is "a", not an integer'),
        ((int, str), [1, "a"], [1], r"is \[1\], not a list of 2"),
        ({"a": int}, {"a": 1, "b": 2}, {"b": 2}, "^a is missing"),
        ({"a?": int}, {}, {"a": None}, "^a is null, not an integer"),
        ({"a": {"b": [str]}}, {"a": {"b": []}}, {"a": {"b": [1]}}, r"^a\.b\[0\] is 1, not text"),
        (Each([int]), {"x": [1]}, {"x": [1], "y": 2}, "^y is 2, not a list"),
        (Either(str, [int]), [1], {}, "an object of 0 fields, not text or a list"),
        (Either(str, [int]), "a", [1.5], r"^\[0\] is 1.5, not an integer"),
        (Either([int], [str]), ["a"], [1, "a"], r"\[0\] is 1, not text"),
        (OneOf("a", "b"), "b", "c", 'is "c", not one of a, b'),
        (OneOf("a", "b"), "a", ["a"], r'is \["a"\], not one of a, b'),
        (Only({"a": int, "b?": str}), {"a": 1}, {"a": 1, "c": 2}, "^c is not a known field; known: a, b$"),
        ({"x": Only({"a": int})}, {"x": {"a": 1}}, {"x": {}}, r"^x\.a is missing"),
        ([str], ["\u00e4"], ["\ud800"], r"^\[0\] is .*ud800.*, not text"),
        (Each(int), {"\u00e4": 1}, {"\udfff": 1}, "^a name in the document is .*udfff.*, not text"),
        (Any, {"x": [None]}, ..., ""),
    ],
)
def test_schemas(schema: Any, good: Any, bad: Any, message: str) -> None:
    assert check(good, schema) == good
    if bad is not ...:
        with pytest.raises(MalformedJsonError, match=message):
            check(bad, schema)


def test_long_integers_become_floats_on_demand() -> None:
    text = f"[1, {2**64 - 1}, {2**64}, -{10**30}]"
    assert parse(text, long_integers=True) == [1, 2**64 - 1, float(2**64), -1e30]
    with pytest.raises(
        MalformedJsonError, match=r"the integer 18446744073709551616.* does not fit into 64 bits"
    ):
        parse(text)
    with pytest.raises(MalformedJsonError, match=r"the number 9999.* is not finite"):
        parse("9" * 400, long_integers=True)


def test_a_byte_order_mark_is_ignored() -> None:
    assert parse(b'\xef\xbb\xbf{"a": 1}') == {"a": 1}


def test_valid_documents_parse_as_with_the_json_module() -> None:
    text = '{"a": [1, -2.5, 1e-300, true, null, "\\u00e4"], "b": {"c": 18446744073709551615}}'
    assert parse(text) == parse(text.encode()) == json.loads(text)


def _bench_results(path: Path) -> object:
    return bench_document.load(path)


def _checkpoint(path: Path) -> object:
    return record._read_document(path.parent)


def _squad(path: Path) -> object:
    return read_squad(path, unanswerable=False, train=True)


def _gpu_table(path: Path) -> object:
    from aerogel.torch.cuda import table

    return table.load(path)


def _manifest(path: Path) -> object:
    from aerogel.torch.loader import _read_manifest

    return _read_manifest(path.parent / "model.onnx", "0" * 64)


def _outcome(path: Path) -> object:
    from types import SimpleNamespace

    return execute._saved(SimpleNamespace(config=SimpleNamespace(out=path.with_suffix("")), identity={}))  # type: ignore[arg-type]


REFUSING: dict[str, tuple[str, Callable[[Path], object]]] = {
    "bench": ("x.json", _bench_results),
    "gpu results": ("x.json", lambda path: results.load(path, {}, {})),
    "gpu table": ("x.json", _gpu_table),
    "checkpoint": (record.RECORD_FILE, _checkpoint),
    "sweep": ("x.json", _outcome),
    "squad": ("x.json", _squad),
    "manifest": ("model.manifest.json", _manifest),
}


@pytest.mark.parametrize("reader", REFUSING)
@pytest.mark.parametrize("content", MALFORMED.values(), ids=MALFORMED)
def test_every_reader_raises_a_one_line_error(tmp_path: Path, reader: str, content: bytes) -> None:
    name, load = REFUSING[reader]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(AerogelError, match=name) as caught:
        load(tmp_path / name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [text for name, text in MALFORMED.items() if name != "no fields"])
def test_a_malformed_config_json_raises_a_one_line_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(AerogelError, match=r"config\.json cannot be read as JSON"):
        record.read_config(tmp_path)
    with pytest.raises(AerogelError, match=r"cannot read .*config\.json as JSON"):
        inputs.vocabulary(tmp_path / "model.onnx")


@pytest.mark.parametrize("content", MALFORMED.values(), ids=MALFORMED)
def test_optional_files_that_are_damaged_are_ignored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    (tmp_path / "model.manifest.json").write_bytes(content)
    assert not output_dir.is_export(tmp_path / "model.onnx")
    assert not _is_log(tmp_path / "model.manifest.json")
    host = Machine("cpu", "avx512", "0" * 64, "1.31.1", 1)
    monkeypatch.setattr(cache, "this_machine", lambda _: host)
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    cache.path_of(host).write_bytes(content)
    found = cache.find(1)
    assert isinstance(found, str)
    assert "is damaged or from another machine" in found


@pytest.mark.parametrize("content", MALFORMED.values(), ids=MALFORMED)
def test_a_damaged_tile_cache_is_ignored_with_a_warning(tmp_path: Path, content: bytes) -> None:
    tuning = pytest.importorskip("aerogel.kernels.triton.tuning", reason="Triton is not installed")
    (tmp_path / "tiles.json").write_bytes(content)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert tuning._read.__wrapped__(tmp_path / "tiles.json") == {}
    assert ["is ignored; delete it" in str(item.message) for item in caught] == [True]


NESTED: dict[str, tuple[Any, Any]] = {
    "memory of text": (("runs", 0, "memory_bytes"), {"peak": "1"}),
    "a latency of null": (("runs", 0, "latency_ms", "median"), None),
    "a baseline below zero": (("baseline",), -1),
    "a baseline of true": (("baseline",), True),
    "warnings of numbers": (("warnings",), [1]),
    "lengths of text": (("settings", "lengths"), ["5"]),
    "a speed-up of a list": (("runs", 0, "speedup"), [1.0]),
    "a model of null": (("runs", 0, "model"), None),
}


@pytest.mark.parametrize("name", NESTED)
def test_nested_fields_of_a_bench_document_are_checked(tmp_path: Path, name: str) -> None:
    run = {
        "model": "m", "label": "l", "backend": "onnxruntime", "precision": "dense fp32", "variant": "s",
        "variant_ms": {}, "details": "", "file_bytes": 1, "load_seconds": 0.1, "memory_bytes": {},
        "cpu_utilization": 1.0, "reference": "m", "relative_error": None, "correct": True, "speedup": None,
        "latency_ms": {"median": 1.0, "p90": 1.0, "p99": 1.0, "spread": 0.0, "round_medians": [1.0]},
    }  # fmt: skip
    settings = {"threads": 1, "batch": 1, "seq": 8, "rounds": 1, "iterations": 1, "seed": 0, "lengths": []}
    point: Any = {"settings": settings, "baseline": 0, "runs": [run], "skipped": [], "warnings": []}
    path = tmp_path / "bench.json"
    path.write_text(json.dumps({"schema": bench_document.SCHEMA, "configurations": [point]}))
    assert len(bench_document.load(path)) == 1
    (*above, last), value = NESTED[name]
    parent = point
    for key in above:
        parent = parent[key]
    parent[last] = value
    path.write_text(json.dumps({"schema": bench_document.SCHEMA, "configurations": [point]}))
    with pytest.raises(AerogelError, match=rf"bench\.json has no measurements .*{last}"):
        bench_document.load(path)
