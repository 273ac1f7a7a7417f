"""JSON files of a model: anybody may have written them, so each field is checked when it is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from aerogel.errors import ArtifactError
from aerogel.system.json_fields import MalformedJsonError, check, read, short

__all__ = ["Document", "check_value", "read_json"]

# Manifests, configurations and lists of modules are far smaller.
_MAX_BYTES = 64 << 20


def read_json(path: Path, schema: Any) -> Any:
    """Read a file and check the document in it; see `aerogel.system.json_fields` for schemas.

    Raises:
        ArtifactError: the file cannot be read, is larger than 64 MiB, or breaks the schema; names the file and field.
    """
    try:
        # Transformers writes 1e30, as an integer, for a length without a limit.
        return read(path, schema, _MAX_BYTES, long_integers=True)
    except OSError as error:
        raise ArtifactError(
            f"cannot read {path} ({error.strerror or error}); check the path and its permissions"
        ) from error
    except MalformedJsonError as error:
        raise ArtifactError(f"{path}: {error}; correct or restore the file") from error


def check_value(value: Any, schema: Any, path: Path, field: str) -> Any:
    """Check a JSON value that comes from `field` of a file, and return it.

    Raises:
        ArtifactError: the value breaks the schema; names the file and field.
    """
    try:
        return check(value, schema, field)
    except MalformedJsonError as error:
        raise ArtifactError(f"{path}: {error}; correct or restore the file") from error


class Document:
    """A JSON object in a file of the model.

    Args:
        path: the file.
        fields: the object.
    """

    def __init__(self, path: Path, fields: dict[str, Any]) -> None:
        self.path = path
        self.fields = fields

    @classmethod
    def read(cls, path: Path) -> Document:
        """The object in a file.

        Raises:
            ArtifactError: the file cannot be read or has no object.
        """
        return cls(path, read_json(path, dict))

    @classmethod
    def read_optional(cls, path: Path) -> Document:
        """The object in a file; an empty one if the file does not exist."""
        return cls.read(path) if path.is_file() else cls(path, {})

    def get(self, field: str, schema: Any) -> Any:
        """The checked value of a field; None where it is absent or null.

        Raises:
            ArtifactError: the value breaks the schema; names the file and field.
        """
        value = self.fields.get(field)
        return None if value is None else check_value(value, schema, self.path, field)

    def error(self, field: str, expected: str) -> ArtifactError:
        """The error for a field whose value is not what the reader expects."""
        return ArtifactError(
            f"{self.path}: {field} is {short(self.fields.get(field))}, not {expected}; correct or restore the file"
        )
