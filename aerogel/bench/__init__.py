"""Measuring: exported models against the dense baseline, each in a process of its own."""
