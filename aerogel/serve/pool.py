"""The models of a server by name: load, replace and unload them while requests come in."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from aerogel.errors import AerogelError, UsageError
from aerogel.serve.log import Log
from aerogel.serve.refusals import Invalid, NotFound, Unavailable
from aerogel.serve.scheduler import Observer
from aerogel.serve.served import Loaded, Served, open_model
from aerogel.serve.settings import Settings
from aerogel.serve.snapshot import Snapshots
from aerogel.system.printable import one_line

__all__ = ["Pool", "check_name", "named_paths"]

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_TOKENIZERS = 2


class Pool:
    """The models, in the order in which they were given; the first that fits serves requests without a name.

    Args:
        settings: the server's settings.
        log: where events are written.
        observer: makes the receiver of the events of a model's scheduler.
    """

    def __init__(self, settings: Settings, log: Log, observer: Callable[[str], Observer]) -> None:
        self._settings, self._log, self._observer = settings, log, observer
        self._paths = named_paths(settings.models)
        self._served: dict[str, Served] = {}
        self._failed: set[str] = set()
        self._loading = asyncio.Lock()
        self._closing: set[asyncio.Task[None]] = set()
        self._threads = ThreadPoolExecutor(_TOKENIZERS, thread_name_prefix="tokenize")
        self._snapshots = Snapshots(settings.snapshot)
        self._stopped = False

    @property
    def ready(self) -> bool:
        """Whether all models of the command line are in service, and the server does not stop."""
        return not self._stopped and self._paths.keys() <= self._served.keys()

    @property
    def failed(self) -> list[str]:
        """Names of models that could not be loaded; the log has the reasons."""
        return sorted(self._failed)

    def all(self) -> list[Served]:
        """The models in service."""
        order = [*self._paths, *sorted(self._served.keys() - self._paths.keys())]
        return [self._served[name] for name in order if name in self._served]

    def get(self, name: str | None, method: str | None = None) -> Served:
        """The model for a request.

        Args:
            name: its name; None for the first that has the method.
            method: name of a method that the request needs.

        Raises:
            NotFound: the name is unknown.
            Unavailable: it is loading or could not be loaded.
            Invalid: no model has the method.
        """
        if name is not None:
            if name in self._served:
                return self._served[name]
            if name not in self._paths:
                raise NotFound(f"unknown model {name!r}; /v1/models lists them")
        else:
            served = self.all()
            for model in served:
                if method is None or method in model.model.methods:
                    return model
            if served and self._paths.keys() <= self._served.keys():
                raise Invalid(f"no model of this server has {method}(); /v1/models lists what each does")
        wanted = self._paths.keys() if name is None else {name}
        if wanted & self._failed:
            # The reason names files, which are no concern of clients.
            raise Unavailable("the model could not be loaded; the log of the server has the reason")
        raise Unavailable("the model is being loaded; send the request again in a few seconds")

    async def load_all(self) -> None:
        """Load the models of the command line, one after the other. Failures are logged and kept in `failed`."""
        for name in list(self._paths):
            try:
                await self.load(name)
            except Invalid:
                self._failed.add(name)

    async def load(self, name: str) -> Served:
        """Load a model, or load it again; the old one serves until the new one is ready, also if that fails.

        Args:
            name: a model of the command line, or a folder in the model folder.

        Raises:
            NotFound: the name is unknown.
            Invalid: the model cannot be loaded.
        """
        path = self._path(name)
        loop = asyncio.get_running_loop()
        async with self._loading:
            try:
                loaded = await loop.run_in_executor(None, self._open, path)
            except (AerogelError, OSError, MemoryError) as error:
                self._log.event("model not loaded", model=name, error=one_line(error))
                raise Invalid(f"model {name} cannot be loaded: {one_line(error)}") from error
            served = Served(name, loaded, self._settings, self._threads, self._observer(name))
            old = self._served.get(name)
            self._served[name] = served
            self._failed.discard(name)
            layout = loaded.layout
            self._log.event(
                "model loaded", model=name, seconds=round(loaded.seconds, 3), workers=layout.workers,
                threads=layout.threads, batch_tokens=layout.batch_tokens, methods=",".join(served.model.methods),
            )  # fmt: skip
            if old is not None:
                self._retire(old)
        return served

    async def unload(self, name: str) -> None:
        """Take a model out of service; requests that it has accepted are answered.

        Raises:
            NotFound: the name is unknown.
        """
        async with self._loading:
            if name not in self._served:
                raise NotFound(f"unknown model {name!r}; /v1/models lists them")
            self._paths.pop(name, None)
            self._retire(self._served.pop(name))
            self._log.event("model unloaded", model=name)

    async def close(self) -> None:
        """Finish what was admitted and release all models."""
        self._stopped = True
        for served in self.all():
            await served.close()
        if self._closing:
            await asyncio.wait(self._closing)
        self._threads.shutdown(wait=False)
        self._snapshots.close()

    def stop(self) -> None:
        """Report that the server is not ready, so that load balancers send no more requests."""
        self._stopped = True

    def _open(self, path: Path) -> Loaded:
        copied = self._snapshots.take(path)
        try:
            return open_model(copied, self._settings)
        except BaseException:
            self._snapshots.drop(copied)
            raise

    def _path(self, name: str) -> Path:
        if name in self._paths:
            return self._paths[name]
        root = self._settings.model_folder
        if root is None or not _NAME.fullmatch(name):
            raise NotFound(f"unknown model {name!r}; it cannot be loaded")
        path = (root / name).resolve()
        if path.parent != root.resolve() or not path.is_dir():
            raise NotFound(f"unknown model {name!r}: the model folder does not have it")
        return path

    async def _close(self, served: Served) -> None:
        await served.close()
        self._snapshots.drop(served.model.path)

    def _retire(self, served: Served) -> None:
        task = asyncio.ensure_future(self._close(served))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


def check_name(name: str) -> str:
    """Check the name of a model and return it.

    Raises:
        UsageError: it has other characters than letters, digits, dot, hyphen and underscore.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} is not a name for a model; use letters, digits, dots, hyphens and underscores: NAME=DIR"
        )
    return name


def named_paths(models: tuple[str, ...]) -> dict[str, Path]:
    """Paths of the models by name; without ``NAME=``, the name is that of the folder.

    Raises:
        UsageError: a name is invalid or given twice, or a path does not exist.
    """
    found: dict[str, Path] = {}
    for model in models:
        name, equals, rest = model.partition("=")
        path = Path(rest if equals else model)
        if not path.exists():
            raise UsageError(f"{path} does not exist; pass a folder that `aerogel export` wrote")
        folder = path.resolve() if path.is_dir() else path.resolve().parent
        name = check_name(name if equals else folder.name)
        if name in found:
            raise UsageError(f"two models have the name {name}; give names as NAME=DIR")
        found[name] = path
    return found
