"""Masked-token pre-training on raw text."""
