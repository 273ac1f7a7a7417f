"""Reading JSON that anybody may have written: strict parsing, and one check of the types of its fields.

A schema is made of plain values:

    str, bool, int, float, dict, list     a value of that JSON type; float takes integers too, and int no booleans
    Number(int, 1, 10)                    a number from 1 to 10
    [schema]                              a list of any length, of such items
    (schema, schema)                      a list of exactly these items
    {"name": schema, "other?": schema}    an object with these fields; those with ? may be absent; others are allowed
    Each(schema)                          an object of any names and such values
    Either(schema, schema)                one of several
    None                                  null
    Any                                   whatever it is
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Each", "Either", "MalformedJsonError", "Number", "check", "parse", "read"]

_MOST_BYTES = 1 << 28
# No document of this package is nested deeper than ten; programs that walk one by recursion stay safe.
_MOST_DEPTH = 64
# What fits into 64 bits, with or without a sign.
_INTEGERS = (-(2**63), 2**64 - 1)
_WORDS = {
    str: "text",
    bool: "true or false",
    int: "an integer",
    float: "a number",
    dict: "an object",
    list: "a list",
}


class MalformedJsonError(ValueError):
    """Text that is not strict JSON, or a field that is not what a schema says. Readers add the file and the remedy."""


@dataclass(frozen=True)
class Number:
    """A number of `kind`, int or float, from `low` to `high`."""

    kind: type
    low: float = -math.inf
    high: float = math.inf


@dataclass(frozen=True)
class Each:
    """An object whose values all have one schema."""

    values: Any


class Either:
    """One of several schemas."""

    def __init__(self, *schemas: Any) -> None:
        self.schemas = schemas


def read(path: Path, schema: Any = Any, most_bytes: int = _MOST_BYTES) -> Any:
    """The document in a file, checked.

    Raises:
        OSError: the file cannot be read.
        MalformedJsonError: it is larger than `most_bytes`, or see `parse` and `check`.
    """
    size = path.stat().st_size
    if size > most_bytes:
        raise MalformedJsonError(f"it has {size} bytes, more than {most_bytes}")
    return check(parse(path.read_bytes()), schema)


def parse(text: str | bytes) -> Any:
    """The document in a text; bytes must be UTF-8.

    Raises:
        MalformedJsonError: it is not JSON, an object has a name twice, a number is not finite or an integer does not
            fit into 64 bits, or it is nested deeper than 64.
    """
    try:
        document = json.loads(
            text.decode("utf-8-sig") if isinstance(text, bytes) else text,
            parse_constant=_constant,
            parse_int=_integer,
            parse_float=_float,
            object_pairs_hook=_object,
        )
    except RecursionError:
        raise MalformedJsonError(f"it is nested deeper than {_MOST_DEPTH}") from None
    except UnicodeDecodeError as error:
        raise MalformedJsonError(f"it is not UTF-8 at byte {error.start}") from error
    except json.JSONDecodeError as error:
        raise MalformedJsonError(f"it is not JSON: {error}") from error
    _check_depth(document)
    return document


def check(document: Any, schema: Any, field: str = "") -> Any:
    """The document itself, if it is what a schema says.

    Args:
        document: what `parse` gave.
        schema: see the module.
        field: where the document stands in a larger one, for messages.

    Raises:
        MalformedJsonError: names the first field that is not, as ``matrices.NAME.shape[1]``.
    """
    if not _fits(document, schema):
        raise MalformedJsonError(f"{field or 'the document'} is {_shown(document)}, not {_described(schema)}")
    if isinstance(schema, dict):
        for name, value in schema.items():
            key = name.removesuffix("?")
            if key in document:
                check(document[key], value, f"{field}.{key}" if field else key)
            elif not name.endswith("?"):
                raise MalformedJsonError(f"{f'{field}.{key}' if field else key} is missing")
    elif isinstance(schema, Each):
        for key, value in document.items():
            check(value, schema.values, f"{field}.{key:.80}" if field else f"{key:.80}")
    elif isinstance(schema, list | tuple):
        items = schema if isinstance(schema, tuple) else schema * len(document)
        for number, (value, item) in enumerate(zip(document, items, strict=True)):
            check(value, item, f"{field}[{number}]")
    elif isinstance(schema, Either):
        chosen = [option for option in schema.schemas if _fits(document, option)]
        for option in chosen[:-1]:
            try:
                return check(document, option, field)
            except MalformedJsonError:
                continue
        check(document, chosen[-1], field)
    return document


def _fits(value: Any, schema: Any) -> bool:
    """Whether a value is of the type that a schema says, whatever its fields or items."""
    if schema is Any:
        return True
    if schema is None:
        return value is None
    if isinstance(schema, Either):
        return any(_fits(value, option) for option in schema.schemas)
    if isinstance(schema, Number):
        return _fits(value, schema.kind) and schema.low <= value <= schema.high
    if isinstance(schema, dict | Each):
        return type(value) is dict
    if isinstance(schema, tuple):
        return type(value) is list and len(value) == len(schema)
    if isinstance(schema, list):
        return type(value) is list
    # JSON gives these very types, and True would be an int to isinstance.
    return type(value) in (int, float) if schema is float else type(value) is schema


def _described(schema: Any) -> str:
    if schema is None:
        return "null"
    if isinstance(schema, Either):
        return " or ".join(map(_described, schema.schemas))
    if isinstance(schema, Number):
        low = "" if schema.low == -math.inf else f" from {schema.low:g}"
        high = "" if schema.high == math.inf else f" up to {schema.high:g}"
        return _WORDS[schema.kind] + low + high
    if isinstance(schema, dict | Each):
        return _WORDS[dict]
    if isinstance(schema, tuple):
        return f"a list of {len(schema)}"
    return _WORDS[list if isinstance(schema, list) else schema]


def _shown(value: Any) -> str:
    if type(value) is dict:
        return f"an object of {len(value)} fields"
    if type(value) is list and len(value) > 4:
        return f"a list of {len(value)}"
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:60]}..."


def _constant(word: str) -> Any:
    raise MalformedJsonError(f"{word} is not a JSON number")


def _integer(digits: str) -> int:
    # Python refuses to convert thousands of digits; twenty are more than any field has.
    value = int(digits) if len(digits) <= 20 else _INTEGERS[1] + 1
    if not _INTEGERS[0] <= value <= _INTEGERS[1]:
        raise MalformedJsonError(f"the integer {digits[:24]}... does not fit into 64 bits")
    return value


def _float(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise MalformedJsonError(f"the number {digits[:24]} is not finite")
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise MalformedJsonError(f"an object has the name {twice[:80]!r} twice")
    return found


def _check_depth(document: Any) -> None:
    level = [document]
    for _ in range(_MOST_DEPTH + 1):
        level = [
            child
            for value in level
            if type(value) in (dict, list)
            for child in (value.values() if type(value) is dict else value)
            if type(child) in (dict, list)
        ]
        if not level:
            return
    raise MalformedJsonError(f"it is nested deeper than {_MOST_DEPTH}")
