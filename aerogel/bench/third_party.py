"""Third-party backends, which may be installed in another environment."""

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
    """A runtime that runs standard operators only, that is dense exports.

    The environment variable `variable` names the interpreter that has the package. Without it, the current one is used.

    Attributes:
        package: name of the package to import.
        install: arguments of ``pip install``.
        dense_precision: precision on a dense export.
        python_command: command of a Python version that the package has wheels for.
    """

    third_party = True
    package: str
    install: str
    dense_precision: Precision
    python_command: str = "python3"

    @property
    def variable(self) -> str:
        """Environment variable that names the interpreter."""
        return f"AEROGEL_PYTHON_{self.package.upper()}"

    def python(self) -> Path | None:
        """Return the interpreter that `variable` names, or None for the current one."""
        named = os.environ.get(self.variable)
        return Path(named) if named else None

    def refuse(self, model: OnnxFile) -> str | None:
        """Refuse every model if the package is not installed, and models that call sparse functions."""
        python = self.python()
        if python and not python.is_file():
            return f"{self.variable}={python} is not a file; name the interpreter of an environment with {self.package}"
        if not _installed(self.package, python):
            return self.install_hint()
        if model.sparse:
            return "it runs standard operators only; export the checkpoint with --format dense for it"
        return None

    def install_hint(self) -> str:
        """Return a message that tells how to install the package."""
        return (
            f"{self.package} is not installed; run: {self.python_command} -m venv DIR && DIR/bin/pip install "
            f"{self.install}, and set {self.variable}=DIR/bin/python"
        )

    def precision(self, model: OnnxFile) -> Precision:  # noqa: ARG002 - it runs dense exports only
        """Return `dense_precision`."""
        return self.dense_precision

    def import_package(self) -> ModuleType:
        """Import the package. Call this in the worker only.

        Raises:
            MissingExtraError: the package is not installed.
        """
        try:
            return importlib.import_module(self.package)
        except ModuleNotFoundError as error:
            if error.name != self.package:
                raise
            raise MissingExtraError(self.install_hint()) from error


@functools.cache
def _installed(package: str, python: Path | None) -> bool:
    if python is None:
        return importlib.util.find_spec(package) is not None
    code = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({package!r}) is None)"
    try:
        return subprocess.run([python, "-c", code], check=False, timeout=_SECONDS).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False
