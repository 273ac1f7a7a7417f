"""TOML files whose keys are fields of a configuration: recipes of runs, settings of the server."""

from __future__ import annotations

import difflib
import math
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from aerogel.errors import DataError, UsageError
from aerogel.system.text import decode, read_bytes

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["check_known", "field_types", "read_recipe", "read_toml", "typed"]

# Fields that can be set only for a single run.
_NOT_IN_RECIPES = ("restart", "progress")
_TYPE_NAMES = {
    bool: "true or false", int: "a whole number", float: "a number", str: "a string", Path: "a path in quotes",
    tuple[int, int]: 'a block in quotes, such as "4x1"', tuple[Path, ...]: "a list of paths",
    Mapping[str, Any]: "a table",
}  # fmt: skip


def read_recipe(path: Path, config_type: type[Any]) -> dict[str, Any]:
    """Read a recipe for the configuration dataclass `config_type`.

    Returns:
        Values by field name, each of the type of its field.

    Raises:
        UsageError: the file cannot be read, a key is unknown, or a value has the wrong type.
    """
    values, types = read_toml(path), field_types(config_type)
    check_known(path, values, types)
    return {key: typed(f"{path}: {key}", value, types[key]) for key, value in values.items()}


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file as a table.

    Raises:
        UsageError: the file cannot be read, or is not TOML.
    """
    try:
        content = read_bytes(path)
    except DataError as error:
        raise UsageError(f"config {error}") from error
    try:
        # `decode` removes a byte order mark, which editors on Windows may write; TOML allows LF and CR LF.
        table: dict[str, Any] = tomllib.loads(decode(path, content))
    except (ValueError, RecursionError) as error:  # DataError and TOMLDecodeError are ValueErrors
        raise UsageError(f"config {path}: not valid TOML ({error}); correct it") from error
    return table


def field_types(config_type: type[Any]) -> dict[str, Any]:
    """Types of the fields of a configuration that a recipe may set, without None."""
    hints = get_type_hints(config_type)
    return {
        field.name: next((t for t in get_args(hint) if hint != Mapping[str, Any] and t in _TYPE_NAMES), hint)
        if type(None) in get_args(hint)
        else hint
        for field in fields(config_type)
        if field.name not in _NOT_IN_RECIPES
        for hint in (hints[field.name],)
    }


def check_known(path: Path, given: Iterable[str], known: Iterable[str]) -> None:
    """Check that all keys are known.

    Raises:
        UsageError: a key is unknown; the message names the file, the key and the known keys.
    """
    names = sorted(known)
    for key in given:
        if key not in names:
            near = difflib.get_close_matches(key, names, n=1)
            hint = f"did you mean {near[0]}? " if near else ""
            raise UsageError(f"{path}: unknown key {key!r}; {hint}known: {', '.join(names)}")


def typed(name: str, value: Any, expected: Any) -> Any:
    """Convert a TOML value to the type `expected`; `name` names it in messages.

    Raises:
        UsageError: the value has another type.
    """
    # Exact types are compared, because isinstance(True, int) is true.
    if (
        expected is float
        and type(value) in (int, float)
        and abs(value) < sys.float_info.max
        and not math.isnan(value)
    ):
        return float(value)
    if expected is Path and type(value) is str and value and "\0" not in value:
        return Path(value)
    if (
        expected == tuple[int, int]
        and type(value) is str
        and re.fullmatch(r"[1-9]\d{0,5}x[1-9]\d{0,5}", value, re.A)
    ):
        rows, cols = value.split("x")
        return int(rows), int(cols)
    if expected == tuple[Path, ...] and type(value) is list:
        return tuple(typed(name, item, Path) for item in value)
    if get_origin(expected) is get_origin(Mapping[str, Any]) and type(value) is dict:
        for key, item in value.items():
            if type(item) not in (bool, int, float, str):
                raise UsageError(f"{name}.{key} must be one value, not {item!r}")
        return value
    if expected in (bool, int, str) and type(value) is expected:
        return value
    raise UsageError(f"{name} must be {_TYPE_NAMES[expected]}, not {value!r}")
