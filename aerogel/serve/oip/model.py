"""A model as the protocol sees it: named tensors, and a function of arrays."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from aerogel.serve.oip.datatypes import BYTES, DTYPES, InferenceError, Tensor, datatype_of

__all__ = ["ServedModel", "check_length", "find_version", "from_session", "output_names"]

Run = Callable[[Mapping[str, np.ndarray], Sequence[str]], Awaitable[Mapping[str, np.ndarray]]]
"""Called with inputs by name and the names of the outputs; returns the outputs by name."""


@dataclass(frozen=True)
class ServedModel:
    """A model that the routes serve.

    Attributes:
        name: its name in paths.
        inputs: its inputs.
        outputs: its outputs.
        run: runs arrays that fit `inputs`. It may raise InferenceError.
        version: its version in paths.
        max_length: largest size of the second dimension of an input; None for no limit.
    """

    name: str
    inputs: Sequence[Tensor]
    outputs: Sequence[Tensor]
    run: Run
    version: str = "1"
    max_length: int | None = None


def from_session(name: str, session: Any, *, max_length: int | None = None) -> ServedModel:
    """A model that runs a session of ONNX Runtime in worker threads.

    Raises:
        UsageError: an input or output has a type that the protocol does not have.
    """

    def run(inputs: Mapping[str, np.ndarray], outputs: Sequence[str]) -> dict[str, np.ndarray]:
        feed = {key: _decoded(key, array) for key, array in inputs.items()}
        try:
            found = session.run(list(outputs), feed)
        except Exception as error:  # the exception types of onnxruntime are not public
            reason = str(error).strip().partition("\n")[0]
            raise InferenceError(f"{name}: the model cannot run these inputs ({reason})") from error
        return dict(zip(outputs, found, strict=True))

    async def run_in_thread(
        inputs: Mapping[str, np.ndarray], outputs: Sequence[str]
    ) -> Mapping[str, np.ndarray]:
        return await asyncio.to_thread(run, inputs, outputs)

    return ServedModel(
        name,
        _tensors(session.get_inputs()),
        _tensors(session.get_outputs()),
        run_in_thread,
        max_length=max_length,
    )


def find_version(find: Callable[[str], ServedModel | None], name: str, version: str | None) -> ServedModel:
    """The model of a name and version; None or "" for the only version.

    Raises:
        InferenceError: there is no such model or version, with status 404.
    """
    model = find(name)
    if model is None:
        raise InferenceError(f"unknown model {name[:80]!r}", 404)
    if version and version != model.version:
        raise InferenceError(f"model {name} has no version {version[:80]!r}; it has {model.version}", 404)
    return model


def check_length(model: ServedModel, inputs: Mapping[str, np.ndarray]) -> None:
    """Refuse long sequences: the memory of attention grows with the square of the length.

    Raises:
        InferenceError: the second dimension of an input is too large, with status 413.
    """
    for name, array in inputs.items():
        if model.max_length is not None and array.ndim > 1 and array.shape[1] > model.max_length:
            raise InferenceError(
                f"input {name}: {array.shape[1]} tokens; the model takes at most {model.max_length}", 413
            )


def output_names(model: ServedModel, asked: Mapping[str, bool] | None) -> list[str]:
    """Names of the outputs to compute; all if none is asked for.

    Raises:
        InferenceError: the model has no output of a name.
    """
    known = [tensor.name for tensor in model.outputs]
    names = known if asked is None else list(asked)
    if unknown := next((name for name in names if name not in known), None):
        raise InferenceError(f"the model has no output {unknown[:80]!r}; it has {', '.join(known)}")
    return names


def _tensors(values: Sequence[Any]) -> list[Tensor]:
    return [
        Tensor(
            value.name,
            datatype_of(value.type),
            tuple(size if type(size) is int and size >= 0 else -1 for size in value.shape or ()),
        )
        for value in values
    ]


def _decoded(name: str, array: np.ndarray) -> np.ndarray:
    """ONNX Runtime takes strings as text."""
    if array.dtype != DTYPES[BYTES]:
        return array
    found = np.empty(array.shape, object)
    try:
        found.ravel()[:] = [item.decode() for item in array.ravel()]
    except UnicodeDecodeError as error:
        raise InferenceError(f"input {name}: text must be UTF-8") from error
    return found
