"""The `aerogel` command. Each module of this folder is one verb; a leading underscore marks a helper.

A verb's module defines `HELP` (one line), `add_arguments(parser)` and `run(args)`. It imports nothing heavy at module
level, so that `aerogel --help` stays fast.
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
    """Reports a bad command line in one line, as every other error."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see {self.prog} --help")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit status: 0 success, 1 a check failed, 2 an error."""
    # Before any verb imports torch, which reads these variables only once.
    set_thread_variables()
    parser, verbs = parsers()
    try:
        _check_utf8(sys.argv[1:] if argv is None else argv)
        args, rest = parser.parse_known_args(argv)
        if rest:
            verbs[args.verb].error(f"unrecognized arguments: {' '.join(rest)}")
        status = int(args.run(args) or 0)
        # A failure to write buffered output is a failure of this run.
        sys.stdout.flush()
        return status
    except AerogelError as error:
        print(f"aerogel: error: {one_line(error)}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # The reader of the pipe has closed it (`aerogel env | head -1`), which is not an error.
        _silence_output()
        return 0
    except OSError as error:
        _silence_output()
        print(
            f"aerogel: error: cannot write standard output ({one_line(error)}); "
            "free disk space or write to another file",
            file=sys.stderr,
        )
        return 2
    except KeyboardInterrupt:
        print("aerogel: interrupted", file=sys.stderr)
        return 130


def _check_utf8(words: Sequence[str]) -> None:
    """Refuse arguments that are not valid UTF-8: records, tables and pages cannot store them."""
    for word in words:
        try:
            word.encode("utf-8")
        except UnicodeEncodeError as error:
            raise UsageError(f"argument {word!a} is not valid UTF-8; rename the file") from error


def parsers() -> tuple[argparse.ArgumentParser, Mapping[str, argparse.ArgumentParser]]:
    """The parser of the command, and the parser of each verb by name."""
    parser = _Parser(
        prog="aerogel", description="Prune BERT-class encoders while they train, and run them sparse."
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
    """Redirect a closed or full standard output to the null device, so that the interpreter's last flush succeeds."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _version() -> str:
    from aerogel import __version__

    return f"aerogel {__version__}"
