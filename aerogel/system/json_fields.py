"""Strict reading of untrusted JSON: parse a document and check the types of its fields.

A schema is made of plain values:

    str, bool, int, float, dict, list     a value of that JSON type; float accepts integers, int refuses booleans
    Number(int, 1, 10)                    a number from 1 to 10
    OneOf("a", "b")                       one of these texts
    [schema]                              a list of any length with such items
    (schema, schema)                      a list of exactly these items
    {"name": schema, "other?": schema}    an object with these fields; ? marks optional ones; others are allowed
    Only({"name": schema})                the same without other fields
    Each(schema)                          an object with any names and such values
    Either(schema, schema)                a value of one of several schemas
    None                                  null
    Any                                   any value

A text with half of a surrogate pair, which has no UTF-8 form, is not a text.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = [
    "Each",
    "Either",
    "MalformedJsonError",
    "Number",
    "OneOf",
    "Only",
    "check",
    "parse",
    "read",
    "short",
]

_MAX_BYTES = 1 << 28
# Documents of this package are at most ten levels deep; the limit keeps recursive readers safe.
_MAX_DEPTH = 64
# Values that fit into 64 bits, signed or unsigned.
_MIN_INTEGER, _MAX_INTEGER = -(2**63), 2**64 - 1
_WORDS = {
    str: "text",
    bool: "true or false",
    int: "an integer",
    float: "a number",
    dict: "an object",
    list: "a list",
}


class MalformedJsonError(ValueError):
    """A text is not strict JSON, or a field breaks its schema. Callers add the file and what to do."""


@dataclass(frozen=True)
class Number:
    """A number of `type`, int or float, from `low` to `high`."""

    type: type
    low: float = -math.inf
    high: float = math.inf


@dataclass(frozen=True)
class Only:
    """An object that has no fields but those of `fields`, a dict of schemas."""

    fields: dict[str, Any]


@dataclass(frozen=True)
class Each:
    """An object whose values all have the schema `values`."""

    values: Any


class OneOf:
    """One of several texts."""

    def __init__(self, *texts: str) -> None:
        self.texts = texts


class Either:
    """A value of one of several schemas."""

    def __init__(self, *schemas: Any) -> None:
        self.schemas = schemas


def read(path: Path, schema: Any = Any, max_bytes: int = _MAX_BYTES, *, long_integers: bool = False) -> Any:
    """Read a file and check the document in it.

    Args:
        path: the file, UTF-8.
        schema: see the module.
        max_bytes: largest size of the file.
        long_integers: see `parse`.

    Raises:
        OSError: the file cannot be read.
        MalformedJsonError: the file is larger than `max_bytes`, or `parse` or `check` fails.
    """
    size = path.stat().st_size
    if size > max_bytes:
        raise MalformedJsonError(f"it has {size} bytes, more than {max_bytes}")
    return check(parse(path.read_bytes(), long_integers=long_integers), schema)


def parse(text: str | bytes, *, long_integers: bool = False) -> Any:
    """Parse a document.

    Args:
        text: the document; bytes are UTF-8, with or without a byte order mark.
        long_integers: integers that do not fit into 64 bits become floats; otherwise they are refused.

    Raises:
        MalformedJsonError: the text is not JSON, an object repeats a name, a number is not finite, an integer does not
            fit into 64 bits, or the nesting is deeper than 64.
    """
    try:
        document = json.loads(
            text.decode("utf-8-sig") if isinstance(text, bytes) else text,
            parse_constant=_constant,
            parse_int=_long_integer if long_integers else _integer,
            parse_float=_float,
            object_pairs_hook=_object,
        )
    except RecursionError:
        raise MalformedJsonError(f"it is nested deeper than {_MAX_DEPTH}") from None
    except UnicodeDecodeError as error:
        raise MalformedJsonError(f"it is not UTF-8 at byte {error.start}") from error
    except json.JSONDecodeError as error:
        raise MalformedJsonError(f"it is not JSON: {error}") from error
    _check_depth(document)
    return document


def check(document: Any, schema: Any, field: str = "") -> Any:
    """Check a document against a schema and return it.

    Args:
        document: a result of `parse`.
        schema: see the module.
        field: path of `document` in a larger document, for messages.

    Raises:
        MalformedJsonError: a field breaks the schema; the message names the first one, as ``matrices.NAME.shape[1]``.
    """
    if not _matches(document, schema):
        raise MalformedJsonError(f"{field or 'the document'} is {short(document)}, not {_describe(schema)}")
    if isinstance(schema, dict | Only):
        _check_fields(document, schema, field)
    elif isinstance(schema, Each):
        for key, value in document.items():
            check(key, str, f"a name in {field or 'the document'}")
            check(value, schema.values, _join(field, key))
    elif isinstance(schema, list | tuple):
        items = schema if isinstance(schema, tuple) else schema * len(document)
        for index, (value, item) in enumerate(zip(document, items, strict=True)):
            check(value, item, f"{field}[{index}]")
    elif isinstance(schema, Either):
        options = [option for option in schema.schemas if _matches(document, option)]
        for option in options[:-1]:
            try:
                return check(document, option, field)
            except MalformedJsonError:
                continue
        check(document, options[-1], field)
    return document


def short(value: Any) -> str:
    """A JSON value as it is shown in messages: long texts, lists and objects are abbreviated."""
    if type(value) is dict:
        return f"an object of {len(value)} fields"
    if type(value) is list and len(value) > 4:
        return f"a list of {len(value)}"
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:60]}..."


def _check_fields(document: dict[str, Any], schema: dict[str, Any] | Only, field: str) -> None:
    fields = schema.fields if isinstance(schema, Only) else schema
    known = [name.removesuffix("?") for name in fields]
    if isinstance(schema, Only) and (unknown := next((key for key in document if key not in known), None)):
        raise MalformedJsonError(f"{_join(field, unknown)} is not a known field; known: {', '.join(known)}")
    for name, key in zip(fields, known, strict=True):
        if key in document:
            check(document[key], fields[name], _join(field, key))
        elif not name.endswith("?"):
            raise MalformedJsonError(f"{_join(field, key)} is missing")


def _join(field: str, key: str) -> str:
    """Path of the field `key` of the object at `field`."""
    return f"{field}.{key:.80}" if field else f"{key:.80}"


def _matches(value: Any, schema: Any) -> bool:
    """Whether a value has the type of a schema; its fields or items are not checked."""
    if schema is Any:
        return True
    if schema is None:
        return value is None
    if schema is str:
        return _is_text(value)
    if isinstance(schema, Either):
        return any(_matches(value, option) for option in schema.schemas)
    if isinstance(schema, Number):
        return _matches(value, schema.type) and schema.low <= value <= schema.high
    if isinstance(schema, OneOf):
        return type(value) is str and value in schema.texts
    if isinstance(schema, dict | Each | Only):
        return type(value) is dict
    if isinstance(schema, tuple):
        return type(value) is list and len(value) == len(schema)
    if isinstance(schema, list):
        return type(value) is list
    # json.loads returns exactly these types; isinstance would accept True as an int.
    return type(value) in (int, float) if schema is float else type(value) is schema


def _is_text(value: Any) -> bool:
    if type(value) is not str:
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _describe(schema: Any) -> str:
    if schema is None:
        return "null"
    if isinstance(schema, Either):
        return " or ".join(map(_describe, schema.schemas))
    if isinstance(schema, OneOf):
        return f"one of {', '.join(schema.texts)}"
    if isinstance(schema, Number):
        low = "" if schema.low == -math.inf else f" from {schema.low}"
        high = "" if schema.high == math.inf else f" up to {schema.high}"
        return _WORDS[schema.type] + low + high
    if isinstance(schema, dict | Each | Only):
        return _WORDS[dict]
    if isinstance(schema, tuple):
        return f"a list of {len(schema)}"
    return _WORDS[list if isinstance(schema, list) else schema]


def _constant(word: str) -> Any:
    raise MalformedJsonError(f"{word} is not a JSON number")


def _integer(digits: str) -> int:
    # int() refuses thousands of digits; no integer of 64 bits has more than twenty.
    value = int(digits) if len(digits) <= 20 else _MAX_INTEGER + 1
    if not _MIN_INTEGER <= value <= _MAX_INTEGER:
        raise MalformedJsonError(f"the integer {digits[:24]}... does not fit into 64 bits")
    return value


def _long_integer(digits: str) -> float:
    try:
        return _integer(digits)
    except MalformedJsonError:
        return _float(digits)


def _float(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise MalformedJsonError(f"the number {digits[:24]} is not finite")
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for name in names if names.count(name) > 1)
        raise MalformedJsonError(f"an object has the name {repeated[:80]!r} twice")
    return document


def _check_depth(document: Any) -> None:
    level = [document]
    for _ in range(_MAX_DEPTH + 1):
        level = [
            child
            for value in level
            if type(value) in (dict, list)
            for child in (value.values() if type(value) is dict else value)
            if type(child) in (dict, list)
        ]
        if not level:
            return
    raise MalformedJsonError(f"it is nested deeper than {_MAX_DEPTH}")
