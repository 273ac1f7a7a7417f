"""Kinds of cases. Each module of this folder is one, found by its file name."""
