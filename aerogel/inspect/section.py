"""What a section of the report is: numbers first, pictures of them if they are asked for, and sentences."""

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
    """A table of texts.

    Attributes:
        title: what it shows.
        header: names of the columns.
        rows: as many texts each as the header has.
        words: so many columns, from the left, are words; the others are numbers.
    """

    title: str
    header: tuple[str, ...]
    rows: list[list[str]]
    words: int = 1


@dataclass(frozen=True)
class Finding:
    """What a section found.

    Attributes:
        data: JSON values.
        tables: the same for readers.
        notes: definitions and limits that the tables need.
        summary: sentences for the plain-language summary at the end.
    """

    data: dict[str, Any]
    tables: list[Table] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    summary: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Picture:
    """A matplotlib figure; `name` is that of its file, without the ending."""

    name: str
    caption: str
    figure: Figure


class Section(ABC):
    """One section of the report.

    Attributes:
        title: its heading.
        order: sections stand in the order of these numbers.
    """

    title: str
    order: int

    @abstractmethod
    def analyse(self, subject: Subject) -> Finding | None:
        """The numbers; None where the section has nothing to say about `subject`."""

    def draw(self, subject: Subject, finding: Finding) -> list[Picture]:
        """Pictures of what `analyse` found."""
        del subject, finding
        return []
