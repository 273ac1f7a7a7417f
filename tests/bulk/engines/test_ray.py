from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from aerogel.bulk.run import BulkConfig, run_bulk
from aerogel.bulk.work import Loading

# Ray starts processes and threads that outlive a test, so each run has its own interpreter.
RUN = """
import sys
from aerogel.bulk.methods.embed import BULK
from aerogel.cli import main
type(BULK).window = 4
sys.exit(main())
"""


def run(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", RUN, "run", *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def test_a_cluster_writes_the_bytes_of_the_local_engine(tmp_path: Path, toy: Callable[..., Path]) -> None:
    source = tmp_path / "in.txt"
    source.write_text("".join(f"one {'two ' * (n % 6)}\n" for n in range(50)))
    run_bulk(BulkConfig(Loading(toy()), [source], tmp_path / "local.npy"))
    words = ["--in", source, "--engine", "ray", "--workers", 2]
    done = run(toy(), *words, "--out", tmp_path / "ray.npy")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "ray.npy").read_bytes() == (tmp_path / "local.npy").read_bytes()


def test_a_row_that_the_model_refuses_ends_the_job_with_its_line(
    tmp_path: Path, toy: Callable[..., Path]
) -> None:
    source = tmp_path / "in.txt"
    source.write_text("one [MASK]\ntwo\n")
    done = run(
        toy("filler"), "--in", source, "--engine", "ray", "--workers", 1, "--out", tmp_path / "out.jsonl"
    )
    assert done.returncode == 2
    assert "in.txt:2: text has 0 mask tokens" in done.stderr
    assert "Traceback" not in done.stderr
