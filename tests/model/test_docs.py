from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from aerogel.model.head import HEADS

PAGE = Path(__file__).parents[2] / "docs" / "load.md"


def test_the_examples_in_the_docs_run(
    toy: Callable[..., Path],
    exported: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    toy(folder="embedder")
    toy({"logits": 2}, folder="sentiment")
    toy({"logits": 2}, width=1, folder="ranker")
    toy({"logits": 3}, folder="entities")
    toy({"logits": 3}, width=9, config={"vocab_size": 9}, folder="filler")
    shutil.copytree(exported("QuestionAnswering"), tmp_path / "reader")
    monkeypatch.chdir(tmp_path)
    page = PAGE.read_text(encoding="utf-8")
    code = "\n".join(re.findall(r"```python\n(.*?)```", page, re.DOTALL))
    exec(compile(code, str(PAGE), "exec"), {})
    printed = capsys.readouterr().out
    assert printed.startswith("tokens 512 (2, 4)\n")
    assert "dict_keys(['logits'])\none two\n" in printed


def test_the_table_lists_every_head_and_method() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for name in HEADS.names():
        kind = name.replace("-", "_")
        (row,) = re.findall(rf"^\| `{kind}` \| (.*?) \|", page, re.MULTILINE)
        assert set(re.findall(r"`(\w+)\(", row)) == set(HEADS.get(name).methods())
