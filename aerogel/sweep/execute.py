"""Execution of a sweep: one process per run, several at the same time. Finished runs are not repeated."""

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
# Seconds between the request to terminate a process and its kill.
_GRACE = 10.0
_STOPPED = "stopped before the end; run the sweep again to continue"


@dataclass(frozen=True)
class Outcome:
    """The result of a run.

    Attributes:
        run: the run.
        error: one line that says why the run failed; None if it finished.
        metrics: by name.
        density: achieved density of the pruned matrices.
        encoder_density: achieved density of all encoder parameters.
        seconds: wall time of the last process, without those of a run that was killed and resumed.
        reused: whether the result is from an earlier sweep.
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
    """Run what has not finished, `jobs` runs at the same time. A failed run does not stop the others.

    A run that was killed resumes from its saved state. The next sweep repeats failed runs.

    Args:
        runs: as returned by `plan`.
        jobs: number of processes at the same time.
        discard_weights: delete each checkpoint once its results are saved.
        progress: called with each outcome and the number of outcomes so far.
        stop: when set, no process is started and the running ones are terminated.

    Returns:
        Outcomes in the order of `runs`. A run that was stopped or not started has an error.
    """
    stop = stop or threading.Event()
    found: dict[str, Outcome] = {}

    def note(outcome: Outcome) -> None:
        found[outcome.run.name] = outcome
        progress(outcome, len(found))

    for run in runs:
        if saved := _saved(run):
            note(saved)
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
                # The timeout lets signal handlers run.
                done, waiting = wait(waiting, timeout=0.5, return_when=FIRST_COMPLETED)
                for future in done:
                    note(future.result())
        finally:
            stop.set()
            _terminate(children, lock, waiting)
    for future in waiting:
        outcome = future.result()
        if outcome.error is None:
            note(outcome)
        found[outcome.run.name] = outcome
    return [found[run.name] for run in runs]


def _terminate(
    children: set[subprocess.Popen[str]], lock: threading.Lock, waiting: Collection[Future[Outcome]]
) -> None:
    """Terminate the running processes, then kill those that do not end; the threads of `waiting` then return."""
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
    """Run `run` in its own process."""
    start = time.monotonic()
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
    _, errors = child.communicate()
    with lock:
        children.discard(child)
    seconds = round(time.monotonic() - start, 2)
    if child.returncode:
        # A terminal interrupts the children too; their message about it is not the reason.
        error = _STOPPED if stop.is_set() else _reason(child.returncode, errors)
        return Outcome(run, error=error, seconds=seconds)
    try:
        trained = checkpoint.load(run.config.out)
        outcome = Outcome(
            run,
            None,
            trained.record.metrics,
            trained.accounting.density,
            trained.accounting.encoder_density,
            seconds,
        )
        _save(outcome)
        if discard:
            shutil.rmtree(run.config.out)
    except AerogelError as error:
        return Outcome(run, error=one_line(error), seconds=seconds)
    return outcome


def _environment(jobs: int) -> dict[str, str]:
    """Environment of each of `jobs` processes: they share the cores, unless the user has set numbers of threads."""
    given = user_environment()
    return {"TOKENIZERS_PARALLELISM": "false"} | given | thread_variables(given, processes=jobs)


def _reason(status: int, errors: str) -> str:
    """Why a process failed: the last line that it printed, which is Aerogel's error or the end of a traceback."""
    if status < 0:
        with suppress(ValueError):
            return f"killed by {signal.Signals(-status).name}; run the sweep again to continue"
    lines = [line for line in errors.splitlines() if line.strip()]
    return (
        lines[-1].strip().removeprefix("aerogel: error: ")[:500] if lines else f"exited with status {status}"
    )


def _file(run: Run) -> Path:
    return run.config.out.with_name(f"{run.config.out.name}.json")


def _save(outcome: Outcome) -> None:
    """Write the results of a finished run."""
    document = {
        "schema": _SCHEMA, "identity": outcome.run.identity, "metrics": outcome.metrics, "density": outcome.density,
        "encoder_density": outcome.encoder_density, "seconds": outcome.seconds,
    }  # fmt: skip
    with atomic_file(_file(outcome.run)) as file:
        file.write_text(json.dumps(document, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def _saved(run: Run) -> Outcome | None:
    """The results that an earlier sweep saved for the same run; None without them.

    Raises:
        DataError: the file is malformed, or is of another run or version.
    """
    file = _file(run)
    if not file.exists():
        return None
    try:
        found = read(file, _OUTCOME)
        if (found["schema"], found["identity"]) != (_SCHEMA, run.identity):
            raise MalformedJsonError("it is of another run or version")
        if text := unprintable(found["metrics"]):
            raise MalformedJsonError(f"{text[:80]} cannot be printed")
    except (OSError, MalformedJsonError) as error:
        raise DataError(
            f"{file} is not a valid result of this run ({error}); delete it to repeat the run"
        ) from error
    metrics = {name: float(value) for name, value in found["metrics"].items()}
    density, encoder_density, seconds = (float(found[name]) for name in _NUMBERS)
    return Outcome(run, None, metrics, density, encoder_density, seconds, reused=True)
