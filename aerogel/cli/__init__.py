"""The `aerogel` command. Each module of this folder is one verb.

A verb's module defines `HELP` (one line), `add_arguments(parser)` and `run(args)`; it imports nothing heavy at the
top, so that `aerogel --help` stays instant.
"""

from __future__ import annotations

import argparse
import importlib
import os
import pkgutil
import sys
from collections.abc import Sequence

from aerogel.errors import AerogelError

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit status: 0 done, 1 a check that failed, 2 an error."""
    parser = argparse.ArgumentParser(
        prog="aerogel", description="Prune BERT-class encoders while they learn, and run them sparse."
    )
    parser.add_argument("--version", action="version", version=_version())
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    for module in sorted(pkgutil.iter_modules(__path__), key=lambda m: m.name):
        verb = importlib.import_module(f"{__name__}.{module.name}")
        sub = verbs.add_parser(module.name, help=verb.HELP, description=verb.HELP)
        verb.add_arguments(sub)
        sub.set_defaults(run=verb.run)
    args = parser.parse_args(argv)
    try:
        return int(args.run(args) or 0)
    except AerogelError as error:
        print(f"aerogel: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # The reader of a pipe went away (`aerogel env | head -1`): not an error of ours. Point stdout at nothing so
        # that the interpreter's last flush does not complain either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("aerogel: interrupted", file=sys.stderr)
        return 130


def _version() -> str:
    from aerogel import __version__

    return f"aerogel {__version__}"
