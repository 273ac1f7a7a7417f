"""Base class of the report's sections, and the tables, plots and findings that they return."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from aerogel.inspect.subject import Subject

__all__ = ["Finding", "Picture", "Section", "Table"]


@dataclass(frozen=True)
class Table:
    """A table whose cells are strings.

    Attributes:
        title: heading of the table.
        header: names of the columns.
        rows: cells of each row, one per column.
        words: number of leading columns with words, which are left-aligned; the others are numbers.
    """

    title: str
    header: tuple[str, ...]
    rows: list[list[str]]
    words: int = 1


@dataclass(frozen=True)
class Finding:
    """Results of a section.

    Attributes:
        data: the numbers, as JSON values.
        tables: the numbers for readers.
        notes: definitions and limits that explain the tables.
        summary: sentences for the summary at the end of the report.
    """

    data: dict[str, Any]
    tables: list[Table] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    summary: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Picture:
    """A plot: its file name without suffix, its caption and the matplotlib figure."""

    name: str
    caption: str
    figure: Figure


class Section(ABC):
    """One section of the report.

    Attributes:
        title: heading of the section.
        order: sections are sorted by this number.
    """

    title: str
    order: int

    @abstractmethod
    def analyse(self, subject: Subject) -> Finding | None:
        """Compute the numbers and tables; None if the section does not apply to `subject`."""

    def draw(self, subject: Subject, finding: Finding) -> list[Picture]:
        """Plot the result of `analyse`."""
        del subject, finding
        return []
