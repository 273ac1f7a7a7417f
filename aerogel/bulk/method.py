"""Which method of a model a job calls, and the columns of its result."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any, ClassVar

from aerogel.errors import HeadError, UsageError
from aerogel.registry import Registry

if TYPE_CHECKING:
    from aerogel.model import Model

__all__ = ["METHODS", "Columns", "Method", "Options", "choose_method"]

Columns = dict[str, Any]
"""Values of each column of the output: a list, or an array ``[rows, ...]``."""

# The method of a model that has several, in this order; the others follow by name.
_PREFERRED = ("embed", "rerank")


@dataclass(frozen=True)
class Options:
    """Options of a job's method.

    Attributes:
        prompt: name of the prompt to put before each text; None for the model's default.
        dimensions: number of leading features to keep.
        top_k: number of labels, answers or tokens per row; None for the method's default.
    """

    prompt: str | None = None
    dimensions: int | None = None
    top_k: int | None = None


class Method(ABC):
    """One method of `aerogel.Model` in bulk. A module of ``methods/`` defines ``BULK``, an instance.

    The name of the module is that of the method, with a hyphen for each underscore.
    """

    texts: ClassVar[tuple[int, ...]] = (1,)
    """Numbers of text columns that the method takes."""

    columns: ClassVar[tuple[str, ...]]
    """Names of the columns of the result."""

    options: ClassVar[tuple[str, ...]] = ()
    """Fields of `Options` that the method reads."""

    window: ClassVar[int] = 512
    """Rows of a window; fewer for methods with large results."""

    vector: ClassVar[str | None] = None
    """Column with one float32 vector per row, or None."""

    @abstractmethod
    def run(self, model: Model, rows: Sequence[Any], where: Sequence[str], options: Options) -> Columns:
        """Run the model.

        Args:
            model: the model.
            rows: strings, or pairs of strings.
            where: file and line of each row, for messages.
            options: options of the method.

        Raises:
            DataError: a row cannot be processed; names the file and line.
            UsageError: an option is out of range.
        """

    @abstractmethod
    def types(self, arrow: ModuleType) -> dict[str, Any]:
        """Type of each column in Parquet files; `arrow` is the module pyarrow."""


METHODS: Registry[Method] = Registry("method", "aerogel.bulk.methods", "BULK")


def choose_method(model: Model, name: str | None, columns: Sequence[str], options: Options) -> str:
    """Check a job's method, or choose one for the model's head and the number of text columns.

    Raises:
        HeadError: the model does not have the method.
        UsageError: the method takes another number of columns, or does not have an option.
    """
    known = METHODS.names()
    names = sorted(
        (method.replace("_", "-") for method in model.methods),
        key=lambda method: (_PREFERRED.index(method) if method in _PREFERRED else len(_PREFERRED), method),
    )
    names = [method for method in names if method in known]
    if name is None:
        fitting = [method for method in names if len(columns) in METHODS.get(method).texts]
        if not fitting:
            takes = "; ".join(f"{method} takes {_count(METHODS.get(method))}" for method in names)
            raise UsageError(f"--column: {_given(columns)}; {takes}")
        name = fitting[0]
    method = METHODS.get(name)
    if name not in names:
        raise HeadError(f"--method {name}: {model.path} does not have it; it has {', '.join(names)}")
    if len(columns) not in method.texts:
        raise UsageError(f"--column: {_given(columns)}, but {name} takes {_count(method)}")
    for option in ("prompt", "dimensions", "top_k"):
        if getattr(options, option) is not None and option not in method.options:
            raise UsageError(f"--{option.replace('_', '-')} has no effect on {name}; remove it")
    return name


def _count(method: Method) -> str:
    return " or ".join(map(str, method.texts)) + " text column" + "s" * (max(method.texts) > 1)


def _given(columns: Sequence[str]) -> str:
    return "1 column is given" if len(columns) == 1 else f"{len(columns)} columns are given"
