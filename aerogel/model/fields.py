"""Fields of a JSON file that somebody else wrote: each is checked when it is read.

A field that is absent or null reads as None. Every error names the file and the field.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any

from aerogel.errors import ArtifactError

__all__ = ["Fields", "read_json"]

# Bytes. Manifests, configurations and lists of modules are far smaller.
_LARGEST_FILE = 64 << 20


def read_json(path: Path) -> Any:
    """The value in a JSON file.

    Raises:
        ArtifactError: the file cannot be read, is larger than 64 MiB, or is not JSON.
    """
    try:
        if path.stat().st_size > _LARGEST_FILE:
            raise ArtifactError(f"{path} has more than {_LARGEST_FILE >> 20} MiB; restore the file")
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ArtifactError(
            f"cannot read {path} ({error.strerror or error}); check the path and its permissions"
        ) from error
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{path} is not JSON ({error}); restore the file") from error


class Fields:
    """A JSON object and the name that messages call it by.

    Args:
        where: file of the object, and the field that leads to it, e.g. ``"model.manifest.json: head"``.
        value: what the file has there.

    Raises:
        ArtifactError: `value` is not an object.
    """

    def __init__(self, where: str, value: Any) -> None:
        if not isinstance(value, dict):
            raise ArtifactError(f"{where} must be an object, not {_name(value)}")
        self.where = where
        self.values: dict[str, Any] = value

    @classmethod
    def read(cls, path: Path) -> Fields:
        """The object in a file.

        Raises:
            ArtifactError: the file cannot be read, or has no object.
        """
        return cls(str(path), read_json(path))

    @classmethod
    def read_optional(cls, path: Path) -> Fields:
        """The object in a file, or an empty one where the file does not exist."""
        return cls.read(path) if path.is_file() else cls(str(path), {})

    def refuse(self, name: str, wanted: str) -> ArtifactError:
        """The error for a field that must be `wanted` and is something else."""
        return ArtifactError(f"{self._at(name)} must be {wanted}, not {_name(self.values.get(name))}")

    def only(self, names: Collection[str]) -> None:
        """Refuse fields other than `names`."""
        for name in self.values:
            if name not in names:
                raise ArtifactError(f"{self._at(name)} is not a known field; known: {', '.join(names)}")

    def text(self, name: str, choices: Collection[str] | None = None) -> str | None:
        """A string, one of `choices` where they are given."""
        value = self.values.get(name)
        if value is None:
            return None
        if not _is_text(value):
            raise self.refuse(name, "a string")
        if choices is not None and value not in choices:
            raise ArtifactError(f"{self._at(name)} is {value!r}; known: {', '.join(choices)}")
        return str(value)

    def integer(self, name: str, low: int, high: int = 2**31) -> int | None:
        """An integer from `low` to `high`."""
        value = self.values.get(name)
        if value is not None and (type(value) is not int or not low <= value <= high):
            raise self.refuse(name, f"an integer from {low} to {high}")
        return value

    def number(self, name: str) -> float | None:
        """A finite number."""
        value = self.values.get(name)
        if value is None:
            return None
        # An integer of JSON may have thousands of digits.
        if type(value) not in (int, float) or not abs(value) <= sys.float_info.max:
            raise self.refuse(name, "a finite number")
        return float(value)

    def flag(self, name: str) -> bool | None:
        """True or false."""
        value = self.values.get(name)
        if value is not None and not isinstance(value, bool):
            raise self.refuse(name, "true or false")
        return value

    def texts(self, name: str) -> tuple[str, ...] | None:
        """A list of strings."""
        value = self.values.get(name)
        if value is None:
            return None
        if not isinstance(value, list) or not all(map(_is_text, value)):
            raise self.refuse(name, "a list of strings")
        return tuple(value)

    def text_map(self, name: str) -> dict[str, str] | None:
        """An object whose values are strings."""
        value = self.values.get(name)
        if value is None:
            return None
        if not isinstance(value, dict) or not all(_is_text(text) for pair in value.items() for text in pair):
            raise self.refuse(name, "an object of strings")
        return dict(value)

    def object(self, name: str) -> Fields | None:
        """An object."""
        value = self.values.get(name)
        return None if value is None else Fields(self._at(name), value)

    def _at(self, name: str) -> str:
        return f"{self.where}.{name}" if ": " in self.where else f"{self.where}: {name}"


def _is_text(value: Any) -> bool:
    """Whether it is a string that has a UTF-8 form: JSON can spell half of a surrogate pair."""
    if not isinstance(value, str):
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _name(value: Any) -> str:
    """A short form of a value for a message."""
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
