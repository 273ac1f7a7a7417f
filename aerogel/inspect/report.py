"""The report of one checkpoint: the findings of every section, as JSON values and on the terminal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aerogel.inspect.section import Finding, Picture, Section, Table
from aerogel.inspect.sections import SECTIONS
from aerogel.inspect.subject import Subject

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["SCHEMA", "Report", "inspect"]

SCHEMA = 1
"""Version of the JSON document's layout; docs/inspect.md describes it."""


@dataclass(frozen=True)
class Report:
    """What was found.

    Attributes:
        subject: what was inspected.
        findings: (name, section, finding) in the order of the sections.
    """

    subject: Subject
    findings: list[tuple[str, Section, Finding]]

    @property
    def summary(self) -> list[str]:
        """The plain-language summary, a sentence or two for each section."""
        return [sentence for _, _, finding in self.findings for sentence in finding.summary]

    def document(self) -> dict[str, Any]:
        """Everything found as JSON values."""
        record = self.subject.checkpoint.record
        return {
            "schema": SCHEMA,
            "checkpoint": str(self.subject.checkpoint.path),
            "method": record.method,
            "task": record.task,
            "block": list(record.block),
            "scope": record.scope,
            "metrics": record.metrics,
            "sections": {name: finding.data for name, _, finding in self.findings},
            "summary": self.summary,
        }

    def pictures(self) -> dict[str, list[Picture]]:
        """Pictures of every section, by its name."""
        return {name: section.draw(self.subject, finding) for name, section, finding in self.findings}

    def show(self, console: Console) -> None:
        """Print all tables, and the summary last."""
        for _, section, finding in self.findings:
            for table in finding.tables:
                console.print(_rich(table, section.title))
        console.print("Summary")
        for sentence in self.summary:
            console.print(f"- {sentence}")


def inspect(subject: Subject, step: Callable[[str, int, int], None] = lambda *_: None) -> Report:
    """Run every section over `subject`.

    Args:
        subject: what to inspect.
        step: told of the progress: a stage, steps done, steps in all.

    Raises:
        CheckpointError: a weight is not finite, or a model cannot be loaded.
        UsageError: `subject.dense` is not the model that the checkpoint was made from.
        MissingExtraError: an optional dependency is not installed.
    """
    sections = sorted(
        ((SECTIONS.get(name), name) for name in SECTIONS.names()), key=lambda item: item[0].order
    )
    findings = []
    for done, (section, name) in enumerate(sections):
        step("sections", done, len(sections))
        if finding := section.analyse(subject):
            findings.append((name, section, finding))
    return Report(subject, findings)


def _rich(table: Table, heading: str) -> Any:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table as RichTable

    made = RichTable(title=f"{heading}: {table.title}", title_justify="left", box=SIMPLE_HEAD)
    for number, name in enumerate(table.header):
        made.add_column(name, justify="left" if number < table.words else "right")
    for row in table.rows:
        made.add_row(*row)
    return made
