"""The work on one window: run the model, encode the results."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aerogel.bulk.method import METHODS, Options
from aerogel.bulk.windows import Window
from aerogel.bulk.writer import Writer
from aerogel.model import Model, load

__all__ = ["Loading", "Work"]


# Tokens of a batch: enough for full speed, and a quarter of the memory of the default of `aerogel.load`.
_BATCH_TOKENS = 4096


@dataclass(frozen=True)
class Loading:
    """Arguments of `aerogel.load`.

    Attributes:
        path: the .onnx file or its folder.
        name: .onnx file to choose from a folder with several.
        max_length: longest sequence in tokens.
        threads: threads of one call.
    """

    path: Path
    name: str | None = None
    max_length: int | None = None
    threads: int | None = 1

    def load(self) -> Model:
        """Load the model; see `aerogel.load`."""
        return load(
            self.path,
            name=self.name,
            max_length=self.max_length,
            threads=self.threads,
            batch_tokens=_BATCH_TOKENS,
        )


class Work:
    """A function of a window, without state but the model; may be called from several threads.

    Args:
        model: the model.
        method: name of the method in `METHODS`.
        options: options of the method.
        writer: encodes the results.
    """

    def __init__(self, model: Model, method: str, options: Options, writer: Writer) -> None:
        self._model, self._method, self._options, self._writer = model, METHODS.get(method), options, writer

    def __call__(self, window: Window) -> bytes:
        """The bytes of the window's rows in the output.

        Raises:
            DataError: a row cannot be processed or stored; names the file and line.
        """
        columns: dict[str, Any] = dict(window.kept)
        columns |= self._method.run(self._model, window.rows, window.where, self._options)
        return self._writer.encode(columns, len(window.rows))
