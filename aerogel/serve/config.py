"""The configuration file: TOML with the names of the settings as keys. Flags override it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from aerogel.errors import UsageError
from aerogel.serve.settings import Settings, about_of
from aerogel.system.toml_config import check_known, field_types, read_toml, typed

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["parse_config", "read_config", "to_toml"]


def read_config(path: Path) -> dict[str, Any]:
    """Values of the settings in a file.

    Raises:
        UsageError: the file cannot be read, a key is unknown, or a value has the wrong type.
    """
    return _checked(read_toml(path), path)


def parse_config(text: str, name: str) -> dict[str, Any]:
    """Values of the settings in a TOML document; `name` names it in messages.

    Raises:
        UsageError: it is not TOML, a key is unknown, or a value has the wrong type.
    """
    try:
        return _checked(tomllib.loads(text), Path(name))
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{name}: not valid TOML ({error}); correct it") from error


def to_toml(settings: Settings) -> str:
    """The settings as a configuration file; those without a value are comments."""
    given: Mapping[str, Any] = settings.mapping()
    lines = []
    for item in fields(Settings):
        lines.append(f"# {about_of(item.name).meaning}")
        lines.append(f"{item.name} = {_toml(given[item.name])}" if item.name in given else f"# {item.name} =")
    return "\n".join(lines) + "\n"


def _checked(values: dict[str, Any], path: Path) -> dict[str, Any]:
    types = field_types(Settings)
    check_known(path, values, types)
    return {key: _value(f"{path}: {key}", value, types[key]) for key, value in values.items()}


def _value(name: str, value: Any, expected: Any) -> Any:
    if expected == tuple[str, ...]:
        if type(value) is not list or not all(type(item) is str for item in value):
            raise UsageError(f"{name} must be a list of strings, not {value!r}")
        return tuple(value)
    return typed(name, value, expected)


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return '"' + "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in escaped) + '"'
    return repr(value)
