"""Running a sweep: a process for each run, several at a time; what finished is not run again."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aerogel import checkpoint
from aerogel.errors import AerogelError, DataError
from aerogel.sweep.plan import Run
from aerogel.system.atomic_io import atomic_file
from aerogel.system.cores import thread_variables, user_environment
from aerogel.system.json_fields import Each, MalformedJsonError, read
from aerogel.system.printable import one_line, unprintable

__all__ = ["Outcome", "execute"]

_SCHEMA = 1
_NUMBERS = ("density", "encoder_density", "seconds")
_OUTCOME = {"schema": int, "identity": Any, "metrics": Each(float), **dict.fromkeys(_NUMBERS, float)}
# Seconds that a process has to end in before it is killed.
_GRACE = 10.0
_STOPPED = "stopped before its end; sweep again to go on"


@dataclass(frozen=True)
class Outcome:
    """What came of a run.

    Attributes:
        run: the run.
        error: one line, why it failed; None if it finished.
        metrics: by name.
        density: achieved, over the pruned matrices.
        encoder_density: achieved, over all encoder parameters.
        seconds: of the last process; a run that was killed and resumed took longer.
        reused: whether an earlier sweep ran it.
    """

    run: Run
    error: str | None = None
    metrics: dict[str, float] | None = None
    density: float = 1.0
    encoder_density: float = 1.0
    seconds: float = 0.0
    reused: bool = False


def execute(
    runs: Sequence[Run],
    *,
    jobs: int = 1,
    discard_weights: bool = False,
    progress: Callable[[Outcome, int], None] = lambda *_: None,
    stop: threading.Event | None = None,
) -> list[Outcome]:
    """Run what has not finished, `jobs` at a time; a run that fails ends no other.

    A run that was killed goes on from its saved state. A failed one is tried again by the next sweep.

    Args:
        runs: as `plan` made them.
        jobs: processes at a time.
        discard_weights: delete each checkpoint once its numbers are kept.
        progress: told of each outcome, and of how many there are.
        stop: ends the sweep where it is set: no process is begun, and those that run are ended.

    Returns:
        Outcomes in the order of `runs`. A run that was stopped, or not begun, is one that failed.
    """
    stop = stop or threading.Event()
    found: dict[str, Outcome] = {}

    def note(outcome: Outcome) -> None:
        found[outcome.run.name] = outcome
        progress(outcome, len(found))

    for run in runs:
        if kept := _kept(run):
            note(kept)
    environment = _environment(jobs)
    children: set[subprocess.Popen[str]] = set()
    lock = threading.Lock()
    with ThreadPoolExecutor(jobs) as pool:
        waiting: set[Future[Outcome]] = {
            pool.submit(_execute, run, discard_weights, environment, children, lock, stop)
            for run in runs
            if run.name not in found
        }
        try:
            while waiting and not stop.is_set():
                # A timeout lets a signal in.
                done, waiting = wait(waiting, timeout=0.5, return_when=FIRST_COMPLETED)
                for future in done:
                    note(future.result())
        finally:
            stop.set()
            _end(children, lock, waiting)
    for future in waiting:
        outcome = future.result()
        if outcome.error is None:
            note(outcome)
        found[outcome.run.name] = outcome
    return [found[run.name] for run in runs]


def _end(
    children: set[subprocess.Popen[str]], lock: threading.Lock, waiting: Collection[Future[Outcome]]
) -> None:
    """End the processes that still run; the threads of `waiting` see it."""
    try:
        with lock:
            for child in children:
                child.terminate()
        wait(waiting, timeout=_GRACE)
    finally:
        with lock:
            for child in children:
                child.kill()


def _execute(
    run: Run,
    discard: bool,
    environment: dict[str, str],
    children: set[subprocess.Popen[str]],
    lock: threading.Lock,
    stop: threading.Event,
) -> Outcome:
    """One run in a process of its own."""
    began = time.monotonic()
    run.config.out.parent.mkdir(parents=True, exist_ok=True)
    with lock:
        if stop.is_set():
            return Outcome(run, error=_STOPPED)
        child = subprocess.Popen(
            [sys.executable, "-m", "aerogel", *run.command()],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors="replace",
            env=environment,
        )  # fmt: skip
        children.add(child)
    _, said = child.communicate()
    with lock:
        children.discard(child)
    seconds = round(time.monotonic() - began, 2)
    if child.returncode:
        # A terminal interrupts the children too, and what they say of it is no news.
        error = _STOPPED if stop.is_set() else _reason(child.returncode, said)
        return Outcome(run, error=error, seconds=seconds)
    try:
        made = checkpoint.load(run.config.out)
        outcome = Outcome(
            run, None, made.record.metrics, made.accounting.density, made.accounting.encoder_density, seconds
        )
        _keep(outcome)
        if discard:
            shutil.rmtree(run.config.out)
    except AerogelError as error:
        return Outcome(run, error=one_line(error), seconds=seconds)
    return outcome


def _environment(jobs: int) -> dict[str, str]:
    """Variables of each of `jobs` processes at a time: they share the cores, unless the user has set other numbers."""
    mine = user_environment()
    return {"TOKENIZERS_PARALLELISM": "false"} | mine | thread_variables(mine, processes=jobs)


def _reason(status: int, said: str) -> str:
    """The one line that an error of ours is, or the last of a traceback."""
    if status < 0:
        with suppress(ValueError):
            return f"killed by {signal.Signals(-status).name}; sweep again to go on"
    lines = [line for line in said.splitlines() if line.strip()]
    return (
        lines[-1].strip().removeprefix("aerogel: error: ")[:500] if lines else f"ended with status {status}"
    )


def _file(run: Run) -> Path:
    return run.config.out.with_name(f"{run.config.out.name}.json")


def _keep(outcome: Outcome) -> None:
    """Write the numbers of a finished run."""
    document = {
        "schema": _SCHEMA, "identity": outcome.run.identity, "metrics": outcome.metrics, "density": outcome.density,
        "encoder_density": outcome.encoder_density, "seconds": outcome.seconds,
    }  # fmt: skip
    with atomic_file(_file(outcome.run)) as file:
        file.write_text(json.dumps(document, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def _kept(run: Run) -> Outcome | None:
    """What an earlier sweep wrote of the same run.

    Raises:
        DataError: the file is not what `_keep` writes.
    """
    file = _file(run)
    if not file.exists():
        return None
    try:
        found = read(file, _OUTCOME)
        if (found["schema"], found["identity"]) != (_SCHEMA, run.identity):
            raise MalformedJsonError("of another run or version")
        if text := unprintable(found["metrics"]):
            raise MalformedJsonError(f"{text[:80]} cannot be printed")
    except (OSError, MalformedJsonError) as error:
        raise DataError(f"{file} is not the outcome of a run ({error}); remove it to run again") from error
    metrics = {name: float(value) for name, value in found["metrics"].items()}
    density, encoder_density, seconds = (float(found[name]) for name in _NUMBERS)
    return Outcome(run, None, metrics, density, encoder_density, seconds, reused=True)
