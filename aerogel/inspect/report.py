"""The report of a checkpoint: the findings of all sections."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from aerogel.inspect.section import Finding, Picture, Section
from aerogel.inspect.sections import SECTIONS
from aerogel.inspect.subject import Subject

__all__ = ["SCHEMA", "Report", "inspect"]

SCHEMA = 1
"""Version of the JSON document's layout; docs/inspect.md describes it."""


@dataclass(frozen=True)
class Report:
    """Findings of all sections.

    Attributes:
        subject: the inspected checkpoint.
        findings: (name, section, finding) in the order of the sections.
    """

    subject: Subject
    findings: list[tuple[str, Section, Finding]]

    @property
    def summary(self) -> list[str]:
        """The summary in plain sentences, about one per section."""
        return [sentence for _, _, finding in self.findings for sentence in finding.summary]

    def document(self) -> dict[str, Any]:
        """The findings as JSON values."""
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
        """Plots by section name."""
        return {name: section.draw(self.subject, finding) for name, section, finding in self.findings}


def inspect(subject: Subject, step: Callable[[str, int, int], None] = lambda *_: None) -> Report:
    """Run all sections on `subject`.

    Args:
        subject: the checkpoint to inspect.
        step: called with a stage, the steps done and the number of steps.

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
