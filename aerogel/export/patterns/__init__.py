"""Patterns, one a file. Files that begin with an underscore are helpers."""
