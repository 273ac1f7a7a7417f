"""Write docs/reference/ from the program itself: python tools/write_reference.py [--check].

cli.md lists every verb and flag, environment.md every environment variable. --check writes nothing, and exits with 1 if
a page is out of date.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "reference"


def cli_page() -> str:
    """Text of cli.md: every verb with its flags, from the parsers."""
    from aerogel.cli import parsers

    _, verbs = parsers()
    lines = [
        "# Command line",
        "",
        "Written by `python tools/write_reference.py` from the program's own help.",
        "",
    ]
    lines += [
        f"- [`aerogel {name}`](#aerogel-{name}): {parser.description}" for name, parser in verbs.items()
    ]
    for name, parser in verbs.items():
        lines += ["", f"## aerogel {name}", "", f"{parser.description}", "", "```", _usage(parser), "```"]
        for group in parser._action_groups:
            actions = [a for a in group._group_actions if not isinstance(a, argparse._HelpAction)]
            if not actions and not group.description:
                continue
            title = {"positional arguments": "Arguments", "options": "Options"}.get(
                str(group.title), str(group.title)
            )
            lines += ["", f"**{title[0].upper()}{title[1:]}**"]
            if group.description:
                lines += ["", str(group.description)]
            if actions:
                lines += ["", "| argument | meaning |", "|---|---|"]
            lines += [f"| {_spelled(action)} | {_meaning(action)} |" for action in actions]
    return "\n".join(lines) + "\n"


def environment_page() -> str:
    """Text of environment.md: every environment variable that the program reads."""
    from aerogel.cli._environment import variables

    lines = [
        "# Environment variables",
        "",
        "`aerogel env` prints their values. Written by `python tools/write_reference.py`.",
        "",
        "| variable | meaning |",
        "|---|---|",
    ]
    lines += [f"| `{name}` | {meaning} |" for name, meaning in sorted(variables().items())]
    return "\n".join(lines) + "\n"


PAGES: dict[str, Callable[[], str]] = {"cli.md": cli_page, "environment.md": environment_page}


def main(arguments: list[str]) -> int:
    """Write the pages, or, with --check, compare them with the files; returns the exit code."""
    stale = []
    for name, make in PAGES.items():
        page, text = FOLDER / name, make()
        if "--check" not in arguments:
            FOLDER.mkdir(parents=True, exist_ok=True)
            page.write_text(text, encoding="utf-8")
        elif not page.is_file() or page.read_text(encoding="utf-8") != text:
            stale.append(f"docs/reference/{name} is out of date; run python tools/write_reference.py")
    print("\n".join(stale), end="\n" if stale else "")
    return bool(stale)


def _usage(parser: argparse.ArgumentParser) -> str:
    """The required arguments in one line. argparse's own usage differs between versions of Python."""
    words = [parser.prog]
    for action in parser._actions:
        if not action.option_strings:
            words.append(f"{action.metavar} ..." if action.nargs == "+" else str(action.metavar))
        elif action.required:
            words.append(f"{action.option_strings[0]} {action.metavar}")
    return " ".join([*words, "[OPTIONS]"])


def _spelled(action: argparse.Action) -> str:
    names = ", ".join(f"`{name}`" for name in action.option_strings)
    value = action.metavar if isinstance(action.metavar, str) else None
    if not action.option_strings:
        return f"`{value or action.dest}`"
    if action.choices is not None and value is None:
        value = "{" + ",".join(map(str, action.choices)) + "}"
    return names + (f" `{value}`".replace("|", "\\|") if value and action.nargs != 0 else "")


def _meaning(action: argparse.Action) -> str:
    return " ".join((action.help or "").replace("|", "\\|").replace("%%", "%").split())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
