"""Sections of the report. Each module of this folder is one section, found by its file name.

It defines ``SECTION``, an instance of `aerogel.inspect.section.Section`.
"""

from aerogel.inspect.section import Section
from aerogel.registry import Registry

__all__ = ["SECTIONS"]

SECTIONS: Registry[Section] = Registry("section", "aerogel.inspect.sections", "SECTION")
