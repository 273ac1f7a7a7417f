"""Kinds of requests; each module defines ``ROUTE``."""
