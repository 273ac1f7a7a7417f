"""Recipes: TOML files whose keys are the fields of a configuration."""

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

# What is given for a run and not for a recipe.
_NOT_IN_RECIPES = ("restart", "progress")
_KINDS = {
    bool: "true or false", int: "a whole number", float: "a number", str: "a text", Path: "a path in quotes",
    tuple[int, int]: 'a block in quotes, such as "4x1"', tuple[Path, ...]: "a list of paths",
    Mapping[str, Any]: "a table",
}  # fmt: skip


def read_recipe(path: Path, kind: type[Any]) -> dict[str, Any]:
    """The values of a recipe for the configuration dataclass `kind`, each of its field's type.

    Raises:
        UsageError: the file cannot be read, has a key that `kind` does not, or a value of another type.
    """
    values, types = read_toml(path), field_types(kind)
    check_known(path, values, types)
    return {key: typed(f"{path}: {key}", value, types[key]) for key, value in values.items()}


def read_toml(path: Path) -> dict[str, Any]:
    """The table that a TOML file is.

    Raises:
        UsageError: it cannot be read, or is not TOML.
    """
    try:
        content = read_bytes(path)
    except DataError as error:
        raise UsageError(f"--config {error}") from error
    try:
        # TOML ends a line with LF or CR LF, and Windows' editors may put a byte order mark before the first one.
        table: dict[str, Any] = tomllib.loads(decode(path, content))
    except (ValueError, RecursionError) as error:  # DataError and TOMLDecodeError are ValueErrors
        raise UsageError(f"--config {path} is not TOML ({error}); correct it") from error
    return table


def field_types(kind: type[Any]) -> dict[str, Any]:
    """Types of the fields of a configuration that may stand in a recipe; None is taken out of them."""
    hints = get_type_hints(kind)
    return {
        field.name: next((t for t in get_args(hint) if hint != Mapping[str, Any] and t in _KINDS), hint)
        if type(None) in get_args(hint)
        else hint
        for field in fields(kind)
        if field.name not in _NOT_IN_RECIPES
        for hint in (hints[field.name],)
    }


def check_known(path: Path, given: Iterable[str], known: Iterable[str]) -> None:
    """Refuse keys that are not `known`.

    Raises:
        UsageError: names the file, the key, the nearest known one and all.
    """
    names = sorted(known)
    for key in given:
        if key not in names:
            near = difflib.get_close_matches(key, names, n=1)
            hint = f"did you mean {near[0]}? " if near else ""
            raise UsageError(f"{path}: unknown key {key!r}; {hint}known: {', '.join(names)}")


def typed(what: str, value: Any, kind: Any) -> Any:
    """A value of TOML as one of the type `kind`; `what` names it in messages.

    Raises:
        UsageError: it is of another type.
    """
    # Exact types: True is an int to isinstance.
    if (
        kind is float
        and type(value) in (int, float)
        and abs(value) < sys.float_info.max
        and not math.isnan(value)
    ):
        return float(value)
    if kind is Path and type(value) is str and value and "\0" not in value:
        return Path(value)
    if (
        kind == tuple[int, int]
        and type(value) is str
        and re.fullmatch(r"[1-9]\d{0,5}x[1-9]\d{0,5}", value, re.A)
    ):
        rows, cols = value.split("x")
        return int(rows), int(cols)
    if kind == tuple[Path, ...] and type(value) is list:
        return tuple(typed(what, item, Path) for item in value)
    if get_origin(kind) is get_origin(Mapping[str, Any]) and type(value) is dict:
        for name, item in value.items():
            if type(item) not in (bool, int, float, str):
                raise UsageError(f"{what}.{name} must be one value, not {item!r}")
        return value
    if kind in (bool, int, str) and type(value) is kind:
        return value
    raise UsageError(f"{what} must be {_KINDS[kind]}, not {value!r}")
