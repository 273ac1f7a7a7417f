from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

# A process that prints the names of all tests. Its clock is ahead, so that names with the time differ.
COLLECT = """
import sys, time

now = time.time
time.time = lambda: now() + float(sys.argv[1])
import pytest


class Names:
    def pytest_collection_finish(self, session):
        print(*(item.nodeid for item in session.items), sep="\\n")


sys.exit(pytest.main(["--collect-only", "-q", "-p", "no:cacheprovider"], [Names()]))
"""
YEAR = 366 * 86_400


def test_every_process_collects_the_same_tests() -> None:
    """The processes of pytest-xdist refuse to start where the names of their tests differ."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    begun = [
        subprocess.Popen(
            [sys.executable, "-c", COLLECT, str(ahead)],
            cwd=Path(__file__).parents[1],
            env=environment | {"PYTHONHASHSEED": seed},
            stdout=subprocess.PIPE,
            text=True,
        )
        for seed, ahead in (("1", 0), ("2", YEAR))
    ]
    first, second = (
        [line for line in process.communicate()[0].splitlines() if "::" in line] for process in begun
    )
    assert [process.returncode for process in begun] == [0, 0]
    assert len(first) > 1000
    assert len(set(first)) == len(first)
    assert first == second
