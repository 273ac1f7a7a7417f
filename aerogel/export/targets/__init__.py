"""Kinds of artifact, one a file."""
