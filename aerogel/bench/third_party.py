"""Runtimes of others, which may need an environment of their own."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
import subprocess
from pathlib import Path
from types import ModuleType

from aerogel.bench.backend import Backend
from aerogel.bench.model import OnnxFile
from aerogel.bench.precision import Precision
from aerogel.errors import MissingExtraError

__all__ = ["ThirdPartyBackend"]

_SECONDS = 60.0


class ThirdPartyBackend(Backend):
    """A runtime that takes plain operators only.

    It is looked for under the interpreter that the environment variable `variable` names, or else under this one.

    Attributes:
        package: what is imported.
        install: arguments of ``pip install``.
        computes: what it computes on a dense export.
        needs: command of a Python that it has wheels for.
    """

    rival = True
    package: str
    install: str
    computes: Precision
    needs: str = "python3"

    @property
    def variable(self) -> str:
        """Environment variable that names the interpreter."""
        return f"AEROGEL_PYTHON_{self.package.upper()}"

    def python(self) -> Path | None:
        """The interpreter of the rival's own environment, or None for this one."""
        named = os.environ.get(self.variable)
        return Path(named) if named else None

    def refuse(self, model: OnnxFile) -> str | None:
        """Refuses where the package is not installed, and models that call functions."""
        python = self.python()
        if python and not python.is_file():
            return f"{self.variable}={python} is not a file; name the interpreter of an environment with {self.package}"
        if not _installed(self.package, python):
            return self.mend()
        if model.sparse:
            return "it takes plain operators only; export the checkpoint with --format dense for it"
        return None

    def mend(self) -> str:
        """What to do where the package is not installed."""
        return (
            f"{self.package} is not installed; run: {self.needs} -m venv DIR && DIR/bin/pip install {self.install}, "
            f"and set {self.variable}=DIR/bin/python"
        )

    def kind(self, model: OnnxFile) -> Precision:  # noqa: ARG002 - it takes dense exports only
        """What it computes, as declared."""
        return self.computes

    def runtime(self) -> ModuleType:
        """Import the package, in the worker.

        Raises:
            MissingExtraError: it is not installed there.
        """
        try:
            return importlib.import_module(self.package)
        except ModuleNotFoundError as error:
            if error.name != self.package:
                raise
            raise MissingExtraError(self.mend()) from error


@functools.cache
def _installed(package: str, python: Path | None) -> bool:
    if python is None:
        return importlib.util.find_spec(package) is not None
    found = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({package!r}) is None)"
    try:
        return subprocess.run([python, "-c", found], check=False, timeout=_SECONDS).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False
