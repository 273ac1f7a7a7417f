"""Options of a method or a task: fields of a frozen dataclass, parsed from text or typed values."""

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
    """Options of a method or a task without any."""


def option_names(options: type[Any]) -> dict[str, str]:
    """Field names of an options dataclass by option name: the option "lambda" is the field `lambda_`."""
    return {field.name.rstrip("_"): field.name for field in dataclasses.fields(options)}


def option_values(options: Any) -> dict[str, Any]:
    """Values of an options dataclass by option name, defaults included, for the record of a run."""
    return {name: getattr(options, field) for name, field in option_names(type(options)).items()}


def read_options(options: type[Any], given: Mapping[str, Any], owner: str, flag: str = "--option") -> Any:
    """Parse options into their dataclass.

    Args:
        options: frozen dataclass whose fields have the type bool, int, float or str, or one of these or None.
        given: values by option name, as text ("1e-3", "true") or of the field's type.
        owner: method or task that has the options, for messages.
        flag: command line flag of the options, for messages.

    Returns:
        An instance of `options`.

    Raises:
        UsageError: a name is unknown, a value does not have the field's type, or the dataclass refuses it.
    """
    names, types = option_names(options), get_type_hints(options)
    values = {}
    for name, value in given.items():
        if name not in names:
            known = f"known: {', '.join(sorted(names))}" if names else "it has none"
            raise UsageError(f"{flag} {name}: {owner} has no such option; {known}")
        field = names[name]
        values[field] = _value(f"{flag} {name}", value, types[field])
    return options(**values)


def _value(name: str, value: Any, annotation: Any) -> Any:
    """Convert `value` to bool, int, float or str."""
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
        expected = {bool: "true or false", int: "a whole number", float: "a number"}[wanted]
        raise UsageError(f"{name}={value}: must be {expected}") from error
    return result
