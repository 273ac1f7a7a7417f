"""Options of a method or a task: the fields of its frozen dataclass, from text or from typed values."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args, get_type_hints

from aerogel.errors import UsageError

__all__ = ["NoOptions", "option_names", "option_values", "read_options"]

_TRUTH = {"true": True, "false": False}


@dataclass(frozen=True)
class NoOptions:
    """Of a method or a task that has none."""


def option_names(kind: type[Any]) -> dict[str, str]:
    """Option names of a dataclass and the fields they stand for: `lambda_` is the option "lambda"."""
    return {field.name.rstrip("_"): field.name for field in dataclasses.fields(kind)}


def option_values(options: Any) -> dict[str, Any]:
    """The values of an options dataclass by option name, defaults included: for the record of a run."""
    return {name: getattr(options, field) for name, field in option_names(type(options)).items()}


def read_options(kind: type[Any], given: Mapping[str, Any], owner: str, flag: str = "--option") -> Any:
    """Make the options dataclass `kind` from `given`.

    Args:
        kind: frozen dataclass whose fields are of type bool, int, float or str, or one of them or None.
        given: values by option name, as text ("1e-3", "true") or of the field's own type.
        owner: whose options they are, for messages.
        flag: that they are given by.

    Raises:
        UsageError: an unknown name, or a value that is not of the field's type or that the dataclass refuses.
    """
    names, types = option_names(kind), get_type_hints(kind)
    values = {}
    for name, value in given.items():
        if name not in names:
            known = f"known: {', '.join(sorted(names))}" if names else "it has none"
            raise UsageError(f"{flag} {name}: {owner} has no such option; {known}")
        field = names[name]
        values[field] = _value(f"{flag} {name}", value, types[field])
    return kind(**values)


def _value(place: str, value: Any, annotation: Any) -> Any:
    """`value` as bool, int, float or str."""
    (wanted,) = [t for t in get_args(annotation) or (annotation,) if t is not type(None)]
    if value is None and wanted is not annotation:
        return None
    try:
        if wanted is bool:
            return value if isinstance(value, bool) else _TRUTH[value.lower()]
        if isinstance(value, bool) or not isinstance(value, (str, int, float)):
            raise ValueError
        if wanted is str:
            return str(value)
        result = wanted(value)
        if not math.isfinite(result) or (wanted is int and not isinstance(value, str) and result != value):
            raise ValueError
    except (AttributeError, KeyError, ValueError, OverflowError) as error:
        kinds = {bool: "true or false", int: "a whole number", float: "a number"}
        raise UsageError(f"{place}={value}: must be {kinds[wanted]}") from error
    return result
