"""The `aerogel` command. Each module of this folder is one verb; an underscore in front marks a helper.

A verb's module defines `HELP` (one line), `add_arguments(parser)` and `run(args)`; it imports nothing heavy
at the top, so that `aerogel --help` stays instant.
"""

from __future__ import annotations

import argparse
import importlib
import os
import pkgutil
import sys
from collections.abc import Mapping, Sequence
from typing import NoReturn

from aerogel.errors import AerogelError, UsageError
from aerogel.system.cores import set_thread_variables
from aerogel.system.printable import one_line

__all__ = ["main", "parsers"]


class _Parser(argparse.ArgumentParser):
    """Reports a bad command line as every other error is reported: in one line."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see {self.prog} --help")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit status: 0 done, 1 a check that failed, 2 an error."""
    # Before any verb imports torch, which reads them only once.
    set_thread_variables()
    parser, verbs = parsers()
    try:
        _demand_utf8(sys.argv[1:] if argv is None else argv)
        args, rest = parser.parse_known_args(argv)
        if rest:
            verbs[args.verb].error(f"unrecognized arguments: {' '.join(rest)}")
        status = int(args.run(args) or 0)
        # What is still buffered belongs to this run: if it cannot be written, the run failed.
        sys.stdout.flush()
        return status
    except AerogelError as error:
        print(f"aerogel: error: {one_line(error)}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # The reader of a pipe ended (`aerogel env | head -1`): that is no error.
        _silence_output()
        return 0
    except OSError as error:
        _silence_output()
        print(
            f"aerogel: error: standard output cannot be written ({one_line(error)}); "
            "free disk space or write to another file",
            file=sys.stderr,
        )
        return 2
    except KeyboardInterrupt:
        print("aerogel: interrupted", file=sys.stderr)
        return 130


def _demand_utf8(words: Sequence[str]) -> None:
    """Refuse an argument with bytes that are not UTF-8: no record, table or page can store it."""
    for word in words:
        try:
            word.encode("utf-8")
        except UnicodeEncodeError as error:
            raise UsageError(f"argument {word!a} is not valid UTF-8; rename the file") from error


def parsers() -> tuple[argparse.ArgumentParser, Mapping[str, argparse.ArgumentParser]]:
    """The parser of the command, and that of each verb by name."""
    parser = _Parser(
        prog="aerogel", description="Prune BERT-class encoders while they learn, and run them sparse."
    )
    parser.add_argument("--version", action="version", version=_version())
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    for name in sorted(module.name for module in pkgutil.iter_modules(__path__)):
        if name.startswith("_"):
            continue
        verb = importlib.import_module(f"{__name__}.{name}")
        sub = verbs.add_parser(name, help=verb.HELP, description=verb.HELP)
        verb.add_arguments(sub)
        sub.set_defaults(run=verb.run)
    return parser, verbs.choices


def _silence_output() -> None:
    """Point a standard output that takes no more at nothing, so that the interpreter's last flush succeeds."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _version() -> str:
    from aerogel import __version__

    return f"aerogel {__version__}"
