"""`aerogel env`: versions, processor, native library and environment variables."""

from __future__ import annotations

import argparse
import json
from typing import Any

HELP = "show versions, processor features, kernels and environment variables"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def run(args: argparse.Namespace) -> None:
    """Print the report."""
    from aerogel.cli._environment import environment

    found = environment()
    if args.json:
        print(json.dumps(found, indent=2))
    else:
        _print(found)


def _print(found: dict[str, Any]) -> None:
    from rich.table import Table

    from aerogel.system.terminal import console

    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("aerogel", f"{found['aerogel']}, Python {found['python']}, {found['system']}")
    for name, version in found["packages"].items():
        table.add_row(name, version or "not installed")
    cpu, library = found["cpu"], found["library"]
    table.add_row("processor", f"{cpu['model']}, {cpu['cores']} cores")
    table.add_row("features", " ".join(cpu["features"]) or "not reported by this system")
    table.add_row("native library", library["path"] or "none")
    if library["reason"]:
        table.add_row("", f"not usable: {library['reason']}")
    for isa in library["instruction_sets"]:
        state = "in use" if isa["name"] == library["selected"] else "available" if isa["available"] else "no"
        table.add_row(f"kernels, {isa['name']}", f"{state}: {isa['reason']}" if isa["reason"] else state)
    for name, variable in found["variables"].items():
        value = "not set" if variable["value"] is None else repr(variable["value"])
        table.add_row(name, f"{value} ({variable['meaning']})")
    console().print(table)
