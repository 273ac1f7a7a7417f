"""Run windows in threads of this process, which share one session.

A session with one thread per call computes in the calling thread, so that workers never wait for one another; ONNX
Runtime, the tokenizer and the kernels release the interpreter's lock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from aerogel.bulk.engine import Engine, Task
from aerogel.bulk.windows import Window
from aerogel.bulk.work import Work
from aerogel.errors import AerogelError
from aerogel.model import Model
from aerogel.system.cores import physical_cores

__all__ = ["ENGINE"]


class Local(Engine):
    """Threads of this process; by default one per physical core."""

    def run(self, task: Task, model: Model, windows: Iterable[Window]) -> Iterator[tuple[Window, bytes]]:
        """See `Engine.run`."""
        workers = task.workers or max(1, physical_cores() // (task.loading.threads or 1))
        work = Work(model, task.method, task.options, task.writer)
        pool = ThreadPoolExecutor(workers, thread_name_prefix="bulk")
        waiting: deque[tuple[Window, Future[bytes]]] = deque()
        failure: AerogelError | None = None
        source = iter(windows)
        try:
            while True:
                try:
                    window = next(source)
                except StopIteration:
                    break
                except AerogelError as error:
                    failure = error
                    break
                waiting.append((window, pool.submit(work, window)))
                # One more than the workers, so that none waits for the reader.
                if len(waiting) > workers + 1:
                    window, future = waiting.popleft()
                    yield window, future.result()
            while waiting:
                window, future = waiting.popleft()
                yield window, future.result()
        finally:
            pool.shutdown(cancel_futures=True)
        if failure is not None:
            raise failure


ENGINE = Local()
