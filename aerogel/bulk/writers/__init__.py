"""Formats of output files; each module defines ``WRITER``."""
