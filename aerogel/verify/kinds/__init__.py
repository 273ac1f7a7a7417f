"""Kinds of artifacts, one module each; see `aerogel.verify.kind`."""
