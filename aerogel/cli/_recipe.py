"""Configurations from a recipe and flags: defaults, then `--config FILE`, then what the command line says."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, TypeVar

__all__ = ["add_config", "config_of"]

C = TypeVar("C")


def add_config(parser: argparse.ArgumentParser) -> None:
    """Declare --config. The other arguments must have no defaults of their own (`argparse.SUPPRESS`), but tables {}."""
    parser.add_argument(
        "--config", type=Path, metavar="FILE.toml", help="recipe: any of these settings; flags go before it"
    )


def config_of(kind: type[C], args: argparse.Namespace) -> C:
    """The configuration dataclass `kind` that a recipe and the arguments make. Entries of tables are merged.

    Raises:
        UsageError: a setting is missing, unknown or out of range, or the file cannot be read.
    """
    from aerogel.errors import UsageError
    from aerogel.train.recipe import read_recipe

    values = read_recipe(args.config, kind) if args.config else {}
    for field in fields(kind):  # type: ignore[arg-type]
        if hasattr(args, field.name):
            flag: Any = getattr(args, field.name)
            table = isinstance(flag, Mapping)
            values[field.name] = {**values.get(field.name, {}), **flag} if table else flag
        elif field.default is MISSING and field.default_factory is MISSING and field.name not in values:
            raise UsageError(f"--{field.name} is missing; give it as a flag or in the --config file")
    return kind(**values)
