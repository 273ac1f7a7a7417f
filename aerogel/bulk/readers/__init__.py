"""Formats of input files; each module defines ``READER``."""
