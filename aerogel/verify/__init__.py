"""Check a finished artifact again: hashes, structure, and outputs on the samples in its manifest. Needs no torch."""

from aerogel.verify.run import Check, verify_artifact

__all__ = ["Check", "verify_artifact"]
