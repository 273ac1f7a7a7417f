"""Refuse words and phrases that keep readers out: python tools/check_words.py [PATH ...].

Checks documents, and the docstrings, comments and messages of Python files. docs/glossary.md has the words to use.
"""

from __future__ import annotations

import io
import re
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

# Phrase, and what to write instead.
WORDS = {
    r"anew": "again",
    r"mend(s|ed|ing)?": "fix",
    r"(is|are|was|were|be|been) told": "printed, passed, reported",
    r"of ours": "Aerogel's",
    r"(?-i:is none)": "is not one",
    r"are none": "there are no",
    r"cannot be meant": "is out of range",
    r"what is left": "the remaining weights",
    r"for good": "permanently",
    r"as a rule": "usually",
    r"the same of": "write it out",
    r"stands? beside": "is next to",
    r"see to (it|its|that)": "check",
    r"speaks? of": "is about",
    r"beside (it|them) in the file": "in the same file",
    r"shall": "must, will",
    r"that is no (number|tensor|model|file|layer)": "that is not a ...",
    r"is no (number|tensor|model|file|layer)": "is not a ...",
}
SUFFIXES = (".md", ".py", ".toml")
SKIPPED = {"CHANGELOG.md"}
_PATTERN = re.compile(
    r"(?<![\w`-])(?:" + "|".join(f"(?P<w{n}>{word})" for n, word in enumerate(WORDS)) + r")(?![\w`-])", re.I
)


def found(text: str) -> Iterator[tuple[int, str, str]]:
    """Offset, phrase and replacement of each refused phrase in `text`."""
    for match in _PATTERN.finditer(text):
        number = next(n for n in range(len(WORDS)) if match[f"w{n}"] is not None)
        yield match.start(), match[0], list(WORDS.values())[number]


def texts(path: Path) -> Iterator[tuple[int, str]]:
    """Line number and text of what a person reads in a file: all of a document, strings and comments of a program."""
    source = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        yield 1, source
        return
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if (
            token.type in (tokenize.STRING, tokenize.COMMENT)
            or tokenize.tok_name[token.type] == "FSTRING_MIDDLE"
        ):
            yield token.start[0], token.string


def problems(path: Path) -> list[str]:
    """One line for each refused phrase of a file."""
    return [
        f"{path}:{line + text.count(chr(10), 0, at)}: {phrase!r}: write {instead!r}"
        for line, text in texts(path)
        for at, phrase, instead in found(text)
    ]


def main(arguments: list[str]) -> int:
    """Check files and folders; 1 if a phrase was found."""
    lines: list[str] = []
    for root in map(Path, arguments):
        files = (
            [root]
            if root.is_file()
            else sorted(file for suffix in SUFFIXES for file in root.rglob(f"*{suffix}"))
        )
        for file in files:
            if file.name not in SKIPPED and file.resolve() != Path(__file__).resolve():
                lines += problems(file)
    print("\n".join(lines) if lines else "no refused phrases")
    return bool(lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or ["README.md", "CONTRIBUTING.md", "docs", "aerogel", "recipes", "tests"]))
