"""Configurations from a recipe and flags. Precedence: flags, then the `--config` file, then defaults."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, TypeVar

__all__ = ["add_config", "config_of"]

C = TypeVar("C")


def add_config(parser: argparse.ArgumentParser) -> None:
    """Declare --config.

    The parser's other arguments need the default `argparse.SUPPRESS`, or {} where they are tables.
    """
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE.toml",
        help="TOML file with any of these settings; flags override it",
    )


def config_of(config: type[C], args: argparse.Namespace) -> C:
    """Make the configuration dataclass `config` from a recipe and the arguments. Tables are merged entry by entry.

    Raises:
        UsageError: a setting is missing, unknown or out of range, or the file cannot be read.
    """
    from aerogel.errors import UsageError
    from aerogel.system.toml_config import read_recipe

    values = read_recipe(args.config, config) if args.config else {}
    for field in fields(config):  # type: ignore[arg-type]
        if hasattr(args, field.name):
            flag: Any = getattr(args, field.name)
            table = isinstance(flag, Mapping)
            values[field.name] = {**values.get(field.name, {}), **flag} if table else flag
        elif field.default is MISSING and field.default_factory is MISSING and field.name not in values:
            raise UsageError(f"--{field.name} is required; set it as a flag or in the --config file")
    return config(**values)
