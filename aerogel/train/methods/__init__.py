"""Pruning methods, one per module. The file name is the name of the method.

A method module defines ``METHOD``, a subclass of `aerogel.train.method.Method`.
"""

from aerogel.registry import Registry
from aerogel.train.method import Method

__all__ = ["METHODS"]

METHODS: Registry[type[Method]] = Registry("method", "aerogel.train.methods", "METHOD")
