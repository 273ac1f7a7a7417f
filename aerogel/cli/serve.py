"""`aerogel serve`: serve exported models over HTTP."""

from __future__ import annotations

import argparse
from dataclasses import fields
from pathlib import Path
from typing import Any

from aerogel.serve.settings import Settings, field_help, flag
from aerogel.system.arguments import words

HELP = "serve exported models over HTTP"

_GROUPS = {
    "where to listen": ("host", "port", "uds", "ops_port", "tls_cert", "tls_key", "cors"),
    "speed": ("workers", "sessions", "threads", "batch_tokens", "batch_ms", "queue_tokens", "timeout", "cache_mb"),
    "limits": (
        "max_length", "auto_truncate", "max_body_mb", "max_request_tokens", "max_connections", "read_timeout",
        "keep_alive", "drain", "drain_timeout",
    ),
    "access": ("api_key_file", "admin_token_file", "rate_limit", "insecure"),
    "models": ("model_folder", "snapshot"),
    "log": ("log_format", "log_requests", "log_texts"),
}  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("models", nargs="*", metavar="MODEL", help=field_help("models"))
    parser.add_argument(
        "--config", type=Path, metavar="FILE.toml", help="TOML file with settings; flags override it"
    )
    parser.add_argument(
        "--print-config",
        action="store_true",
        help="print the settings as a configuration file, and serve nothing",
    )
    types = {item.name: str(item.type) for item in fields(Settings)}
    defaults = {item.name: item.default for item in fields(Settings)}
    for title, names in _GROUPS.items():
        group = parser.add_argument_group(title)
        for name in names:
            options: dict[str, Any] = {"dest": name, "default": argparse.SUPPRESS, "help": field_help(name)}
            if isinstance(defaults[name], bool):
                options["action"] = argparse.BooleanOptionalAction if defaults[name] else "store_true"
            else:
                options |= _typed(types[name])
            group.add_argument(flag(name), **options)


def run(args: argparse.Namespace) -> int:
    """Serve until a signal, or print the settings."""
    from aerogel.serve.config import read_config, to_toml
    from aerogel.serve.run import run as serve

    values: dict[str, Any] = read_config(args.config) if args.config else {}
    for item in fields(Settings):
        given = getattr(args, item.name, None)
        if given is not None and not (item.name == "models" and not given):
            values[item.name] = tuple(given) if isinstance(given, list) else given
    settings = Settings(**values)
    if args.print_config:
        print(to_toml(settings), end="")
        return 0
    return serve(settings)


def _typed(annotation: str) -> dict[str, Any]:
    """Options of an argument for the annotation of its field."""
    inner = annotation.removeprefix("Annotated[")
    if inner.startswith("tuple"):
        return {"type": words, "metavar": "NAME,..."}
    if inner.startswith("Path"):
        return {"type": Path, "metavar": "PATH"}
    if inner.startswith("int"):
        return {"type": int, "metavar": "N"}
    return {"type": float, "metavar": "X"} if inner.startswith("float") else {"metavar": "TEXT"}
