"""Scenarios. Each module of this folder is one, found by its file name."""
