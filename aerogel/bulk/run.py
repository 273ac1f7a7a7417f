"""Run a bulk job: read, compute, write, and continue where a killed run stopped."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aerogel.bulk.engine import ENGINES, Task
from aerogel.bulk.identity import settings
from aerogel.bulk.job import Job
from aerogel.bulk.method import METHODS, Options, choose_method
from aerogel.bulk.reader import reader_for
from aerogel.bulk.windows import Source, Window, windows
from aerogel.bulk.work import Loading
from aerogel.bulk.writer import writer_for
from aerogel.errors import DataError, UsageError
from aerogel.model import Model
from aerogel.system.locks import claimed
from aerogel.system.outputs import file_target, is_stream, reported
from aerogel.system.threads import check_threads

__all__ = ["BulkConfig", "Report", "run_bulk"]

Report = Callable[[int, float | None], None]
"""Called with (rows in the output, fraction of the inputs or None) after each window."""


@dataclass(frozen=True)
class BulkConfig:
    """A bulk job.

    Attributes:
        loading: the model.
        inputs: files to read, in order.
        out: file to write; its suffix is the format.
        columns: one or two columns of text.
        keep: columns to copy to the output.
        input_format: name of the reader; None for the one of each file's suffix.
        method: name of the method; None for the default of the model's head.
        options: options of the method.
        engine: where the model runs.
        workers: windows to run at once; None for the engine's default.
        resume: continue the unfinished job of `out`.
        restart: discard it.
    """

    loading: Loading
    inputs: Sequence[Path]
    out: Path
    columns: Sequence[str] = ("text",)
    keep: Sequence[str] = ()
    input_format: str | None = None
    method: str | None = None
    options: Options = field(default_factory=Options)
    engine: str = "local"
    workers: int | None = None
    resume: bool = False
    restart: bool = False


def run_bulk(config: BulkConfig, report: Report = lambda _rows, _done: None) -> int:
    """Run a job and return the number of rows in its output.

    The output has a row for each input row, in order. Its bytes depend neither on the number of workers nor on how
    often the job was killed and resumed.

    Raises:
        AerogelError: see the parts; a job that has begun can be resumed.
    """
    if config.resume and config.restart:
        raise UsageError("--resume and --restart exclude each other; give one")
    if config.workers is not None:
        check_threads(config.workers, "--workers")
    engine = ENGINES.get(config.engine)
    writer_class = writer_for(config.out)
    files = [(reader_for(path, config.input_format), path) for path in config.inputs]
    source = Source(files, tuple(config.columns), tuple(dict.fromkeys(config.keep)))
    kept = _types(source)
    with config.loading.load() as model:
        name = choose_method(model, config.method, config.columns, config.options)
        method = METHODS.get(name)
        if twice := next((column for column in kept if column in method.columns), None):
            raise UsageError(f"--keep {twice}: {name} writes a column of that name; rename it in the input")
        task = Task(config.loading, name, config.options, writer_class(method, kept), config.workers)
        if is_stream(config.out):
            return _stream(config, task, model, source, report)
        with claimed(config.out, "--out"):
            job = Job(
                config.out,
                settings(model, task, source),
                task.writer.header,
                resume=config.resume,
                restart=config.restart,
            )
            try:
                if not job.published:
                    remaining = _skip(windows(source, method.window), job, config.out)
                    report(job.progress.rows, None)
                    for window, data in engine.run(task, model, remaining):
                        job.append(data, len(window.rows), window.digest)
                        report(job.progress.rows, window.done)
                    _check_rows(config, job.progress.rows)
                    job.complete()
            finally:
                job.close()
            if not job.published:
                with reported(config.out):
                    finished = task.writer.finish(job.spool, job.folder, job.progress.rows)
                job.publish(finished)
            job.remove()
            return job.progress.rows


def _stream(config: BulkConfig, task: Task, model: Model, source: Source, report: Report) -> int:
    """Write into a pipe or device, which cannot be resumed."""
    if config.resume or config.restart:
        raise UsageError(f"--out {config.out} is a pipe or device, which cannot be resumed; name a file")
    rows = 0
    with reported(config.out), file_target(config.out).open() as stream:
        found = windows(source, METHODS.get(task.method).window)
        for window, data in ENGINES.get(config.engine).run(task, model, found):
            stream.write(data)
            stream.flush()
            rows += len(window.rows)
            report(rows, window.done)
    _check_rows(config, rows)
    return rows


def _skip(found: Iterator[Window], job: Job, out: Path) -> Iterator[Window]:
    """Skip the windows that are in the spool.

    Raises:
        UsageError: they are not those of the inputs.
    """
    for index in range(job.progress.windows):
        window = next(found, None)
        last = index == job.progress.windows - 1
        if window is None or (last and window.digest != job.progress.digest):
            raise UsageError(
                f"--resume: the first {job.progress.rows:,} rows of the inputs are not those of the unfinished job of "
                f"{out}; give the same inputs, or add --restart instead of --resume to discard it"
            )
    yield from found


def _types(source: Source) -> dict[str, Any]:
    """Arrow types of the kept columns; None for each that an input does not declare.

    Raises:
        UsageError: two inputs declare different types.
    """
    kept: dict[str, Any] = {}
    for index, (reader, path) in enumerate(source.files):
        types = reader.types(path, source.keep)
        for name in source.keep:
            if index and kept[name] != types.get(name):
                raise UsageError(
                    f"--keep {name}: its type in {path} differs from the other inputs; remove it"
                )
            kept[name] = types.get(name)
    return kept


def _check_rows(config: BulkConfig, rows: int) -> None:
    if not rows:
        raise DataError(f"--in {', '.join(map(str, config.inputs))}: no rows; check the files")
