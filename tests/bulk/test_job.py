from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aerogel.bulk.job import Job
from aerogel.bulk.method import METHODS, Options
from aerogel.bulk.run import BulkConfig, run_bulk
from aerogel.bulk.work import Loading
from aerogel.errors import DataError, UsageError

TEXTS = [f"one {'two ' * (n % 5)}three" for n in range(22)]

# Runs a job that kills itself: sys.argv is the model, the input, the output, where, and at which call.
KILLED = """
import os, signal, sys
from pathlib import Path
from aerogel.bulk import job
from aerogel.bulk.method import METHODS
from aerogel.bulk.run import BulkConfig, run_bulk
from aerogel.bulk.work import Loading

model, source, out, where, at = sys.argv[1:]
type(METHODS.get("embed")).window = 4
calls = 0

def killing(function, after):
    def wrapped(*words, **named):
        global calls
        calls += 1
        if not after and calls == int(at):
            os.kill(os.getpid(), signal.SIGKILL)
        result = function(*words, **named)
        if after and calls == int(at):
            os.kill(os.getpid(), signal.SIGKILL)
        return result
    return wrapped

def replace(owner, name, after=False):
    setattr(owner, name, killing(getattr(owner, name), after))

def partial(self, data, *words):
    # Half of a window is in the spool when the process dies.
    append(self, data[: len(data) // 2], *words) if calls + 1 == int(at) else append(self, data, *words)

if where == "record":
    append = job.Job.append
    job.Job.append = partial
    replace(job.Job, "_record")
elif where == "start":
    replace(job.Job, "_write")
elif where == "published":
    replace(job.Job, "publish", after=True)
else:
    replace(job.Job, where)
run_bulk(BulkConfig(Loading(Path(model)), [Path(source)], Path(out), resume=True, workers=2))
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "in.jsonl"
    path.write_text("".join(json.dumps({"id": n, "text": text}) + "\n" for n, text in enumerate(TEXTS)))
    return path


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(METHODS.get("embed")), "window", 4)


def killed(model: Path, source: Path, out: Path, where: str, at: int) -> None:
    words = [str(model), str(source), str(out), where, str(at)]
    ended = subprocess.run(
        [sys.executable, "-c", KILLED, *words], check=False, capture_output=True, timeout=120
    )
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()


@pytest.mark.parametrize("suffix", ["npy", "jsonl", "parquet"])
def test_a_job_killed_again_and_again_has_the_bytes_of_an_unbroken_run(
    tmp_path: Path, toy: Callable[..., Path], source: Path, suffix: str
) -> None:
    whole, out = tmp_path / f"whole.{suffix}", tmp_path / f"out.{suffix}"
    run_bulk(BulkConfig(Loading(toy()), [source], whole))
    folder = tmp_path / f".out.{suffix}.job"
    killed(toy(), source, out, "record", 2)
    record = json.loads((folder / "progress.json").read_text())
    assert record["rows"] == 4
    assert (folder / "spool").stat().st_size > record["bytes"]
    killed(toy(), source, out, "append", 3)
    assert json.loads((folder / "progress.json").read_text())["rows"] == 12
    killed(toy(), source, out, "complete", 1)
    killed(toy(), source, out, "publish", 1)
    assert json.loads((folder / "progress.json").read_text())["complete"]
    assert not out.exists()
    assert run_bulk(BulkConfig(Loading(toy()), [source], out, resume=True, workers=1)) == len(TEXTS)
    assert out.read_bytes() == whole.read_bytes()
    assert not folder.exists()


@pytest.mark.parametrize(("where", "at"), [("start", 1), ("start", 3), ("published", 1)])
def test_a_kill_at_the_start_or_at_the_end_loses_nothing(
    tmp_path: Path, toy: Callable[..., Path], source: Path, where: str, at: int
) -> None:
    whole, out = tmp_path / "whole.npy", tmp_path / "out.npy"
    run_bulk(BulkConfig(Loading(toy()), [source], whole))
    killed(toy(), source, out, where, at)
    assert out.exists() == (where == "published")
    assert run_bulk(BulkConfig(Loading(toy()), [source], out, resume=True)) == len(TEXTS)
    assert out.read_bytes() == whole.read_bytes()
    assert not (tmp_path / ".out.npy.job").exists()


@pytest.fixture
def unfinished(
    tmp_path: Path, toy: Callable[..., Path], source: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """The output of a job that stopped after two windows."""
    out = tmp_path / "out.jsonl"
    append = Job.append

    def failing(self: Job, *words: Any) -> None:
        if self.progress.windows == 2:
            raise KeyboardInterrupt
        append(self, *words)

    with monkeypatch.context() as patch:
        patch.setattr(Job, "append", failing)
        with pytest.raises(KeyboardInterrupt):
            run_bulk(BulkConfig(Loading(toy()), [source], out, keep=["id"]))
    return out


def test_an_unfinished_job_is_neither_continued_nor_discarded_without_a_flag(
    toy: Callable[..., Path], source: Path, unfinished: Path
) -> None:
    config = BulkConfig(Loading(toy()), [source], unfinished, keep=["id"])
    with pytest.raises(UsageError, match="has an unfinished job; add --resume to continue it or --restart"):
        run_bulk(config)
    assert run_bulk(BulkConfig(Loading(toy()), [source], unfinished, keep=["id"], resume=True)) == len(TEXTS)
    assert [json.loads(line)["id"] for line in unfinished.read_text().splitlines()] == list(range(len(TEXTS)))


def test_restart_discards_the_unfinished_job(
    toy: Callable[..., Path], source: Path, unfinished: Path
) -> None:
    assert run_bulk(BulkConfig(Loading(toy()), [source], unfinished, restart=True)) == len(TEXTS)
    assert "id" not in json.loads(unfinished.read_text().splitlines()[0])


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"keep": []}, "kept columns"),
        ({"options": Options(dimensions=2)}, "options"),
        ({"loading": "max_length"}, "max length"),
        ({"columns": ["other"]}, "columns"),
    ],
)
def test_other_settings_are_refused(
    toy: Callable[..., Path], source: Path, unfinished: Path, changes: dict[str, Any], name: str
) -> None:
    known: dict[str, Any] = {"loading": Loading(toy()), "keep": ["id"], "resume": True, **changes}
    if changes.get("loading"):
        known["loading"] = Loading(toy(), max_length=5)
    with pytest.raises(UsageError, match=f"--resume: the unfinished job of .* has another {name};"):
        run_bulk(BulkConfig(inputs=[source], out=unfinished, **known))


def test_another_model_is_refused(
    tmp_path: Path, toy: Callable[..., Path], source: Path, unfinished: Path
) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in toy().iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    tokenizer = copy / "tokenizer.json"
    words = {"inputs": [source], "out": unfinished, "keep": ["id"], "resume": True}
    tokenizer.write_text(tokenizer.read_text() + "\n")
    with pytest.raises(UsageError, match="has another model;"):
        run_bulk(BulkConfig(Loading(copy), **words))
    tokenizer.write_bytes((toy() / "tokenizer.json").read_bytes())
    assert run_bulk(BulkConfig(Loading(copy), **words)) == len(TEXTS)


@pytest.mark.parametrize("change", ["first", "shorter"])
def test_other_inputs_are_refused(
    toy: Callable[..., Path], source: Path, unfinished: Path, change: str
) -> None:
    lines = source.read_text().splitlines()
    source.write_text(
        "\n".join([lines[0].replace("one", "two"), *lines[1:]] if change == "first" else lines[:6])
    )
    with pytest.raises(UsageError, match="--resume: the first 8 rows of the inputs are not those"):
        run_bulk(BulkConfig(Loading(toy()), [source], unfinished, keep=["id"], resume=True))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("progress.json", "{"),
        ("progress.json", '{"windows": -1, "rows": 0, "bytes": 0, "digest": "", "complete": false}'),
        ("settings.json", "[]"),
        ("spool", ""),
    ],
)
def test_damaged_files_of_a_job_are_refused(
    tmp_path: Path, toy: Callable[..., Path], source: Path, unfinished: Path, name: str, content: str
) -> None:
    (tmp_path / ".out.jsonl.job" / name).write_text(content)
    with pytest.raises(DataError, match=f"{name}: .*; start again with --restart"):
        run_bulk(BulkConfig(Loading(toy()), [source], unfinished, keep=["id"], resume=True))


def test_two_runs_of_one_output_exclude_each_other(
    tmp_path: Path, toy: Callable[..., Path], source: Path
) -> None:
    from aerogel.system.locks import claimed

    out = tmp_path / "out.npy"
    with claimed(out, "--out"), pytest.raises(UsageError, match="another run is writing it"):
        run_bulk(BulkConfig(Loading(toy()), [source], out))
